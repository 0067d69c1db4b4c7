//! The signing keys on disk, and their replacement.
//!
//! The file and the time flow in, a key ring flows out that is shared with the rendezvous. A key is on the disk before it
//! signs; one that was replaced stays as long as its longest ticket. No byte of a key goes into an error or a log.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use exedra_proto::secret::Secret;
use exedra_proto::ticket::{Claims, KeyRing, NoSigningKey, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::RegistryError;

/// A key may be so many seconds younger than the clock says that it can be; one that is more was made while the clock was wrong.
const AHEAD: u64 = 5 * 60;
/// The layout of the file that this version writes, and the only one that it reads.
const VERSION: u32 = 1;

/// The keys in force, and the file that keeps them.
#[derive(Debug)]
pub struct SigningKeys {
    path: PathBuf,
    ring: Arc<RwLock<KeyRing>>,
    max_age: u64,
    rotating: Mutex<()>,
}

/// A key, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name, the `kid` of tickets.
    pub id: String,
    /// When it was made, seconds since 1970.
    pub created_at: u64,
    /// Whether it is the one that signs.
    pub signs: bool,
}

#[derive(Serialize, Deserialize)]
struct Content<K> {
    version: u32,
    keys: K,
}

impl SigningKeys {
    /// Reads the keys, or makes the first one. `max_age` in seconds.
    ///
    /// # Errors
    /// [`RegistryError::Keys`] if the file makes no sense: it is never replaced silently.
    pub fn open(path: PathBuf, now: u64, max_age: u64) -> Result<Self, RegistryError> {
        let ring = load(&path)?;
        let keys = Self { path, ring: Arc::new(RwLock::new(ring)), max_age, rotating: Mutex::new(()) };
        keys.rotate_if_due(now)?;
        Ok(keys)
    }

    /// Reads the keys again, for another process may have replaced them. Blocks on the disk.
    ///
    /// # Errors
    /// As [`SigningKeys::open`]; then all stays as it was.
    pub fn reload(&self) -> Result<(), RegistryError> {
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = load(&self.path)?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }

    /// The keys, shared.
    pub fn ring(&self) -> Arc<RwLock<KeyRing>> {
        Arc::clone(&self.ring)
    }

    /// A ticket, signed with the newest key.
    ///
    /// # Errors
    /// There is no key, which cannot be.
    pub fn sign(&self, ws_base: &str, claims: &Claims) -> Result<Secret, NoSigningKey> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).sign(ws_base, claims)
    }

    /// Makes a new key, if there is none, or the newest is too old or from a time that is yet to come, of which nobody knows how
    /// old it is; says whether it did. Blocks on the disk.
    ///
    /// # Errors
    /// The new key cannot be saved; then all stays as it was.
    pub fn rotate_if_due(&self, now: u64) -> Result<bool, RegistryError> {
        let newest = self.ring.read().unwrap_or_else(PoisonError::into_inner).newest_created_at();
        let is_young =
            |created: u64| now.saturating_sub(created) < self.max_age && created <= now.saturating_add(AHEAD);
        if newest.is_some_and(is_young) {
            return Ok(false);
        }
        self.rotate(now)?;
        Ok(true)
    }

    /// The keys in force, oldest first; the last one signs.
    pub fn list(&self) -> Vec<KeyInfo> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let signs = ring.keys().last().map(|key| key.id.clone());
        let info = |key: &SigningKey| KeyInfo {
            id: key.id.clone(),
            created_at: key.created_at,
            signs: Some(&key.id) == signs.as_ref(),
        };
        ring.keys().iter().map(info).collect()
    }

    /// Makes a new key, which signs from now on. Blocks on the disk.
    ///
    /// # Errors
    /// The new key cannot be saved; then all stays as it was.
    pub fn rotate(&self, now: u64) -> Result<(), RegistryError> {
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ring = self.ring.read().unwrap_or_else(PoisonError::into_inner).clone();
        ring.rotate(SigningKey::generate(now)?, now);
        self.put_in_force(ring)?;
        tracing::info!("a new signing key is in force");
        Ok(())
    }

    /// Has nothing that this key signed count any more; if it is the one that signs, another is made at once. Says whether
    /// there is such a key. Blocks on the disk.
    ///
    /// # Errors
    /// The keys cannot be saved; then all stays as it was.
    pub fn revoke(&self, key_id: &str, now: u64) -> Result<bool, RegistryError> {
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ring = self.ring.read().unwrap_or_else(PoisonError::into_inner).clone();
        let signs = ring.keys().last().is_some_and(|key| key.id == key_id);
        if !ring.remove(key_id) {
            return Ok(false);
        }
        if signs {
            ring.rotate(SigningKey::generate(now)?, now);
        }
        self.put_in_force(ring)?;
        tracing::warn!(key_id, "a signing key was revoked");
        Ok(true)
    }

    /// On the disk first.
    fn put_in_force(&self, ring: KeyRing) -> Result<(), RegistryError> {
        save(&self.path, &ring).map_err(|error| RegistryError::io(&self.path, error))?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        Ok(())
    }
}

/// The ring on the disk; an empty one if there is no file.
fn load(path: &Path) -> Result<KeyRing, RegistryError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let secure = std::fs::set_permissions(path, Permissions::from_mode(0o600));
            secure.map_err(|error| RegistryError::io(path, error))?;
            parse(&bytes).map_err(|reason| RegistryError::Keys { path: path.to_owned(), reason })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(KeyRing::default()),
        Err(error) => Err(RegistryError::io(path, error)),
    }
}

/// Whether the file at `path` holds whole keys.
///
/// # Errors
/// [`RegistryError::Keys`] if not.
pub fn check(path: &Path) -> Result<(), RegistryError> {
    let bytes = std::fs::read(path).map_err(|error| RegistryError::io(path, error))?;
    parse(&bytes).map(drop).map_err(|reason| RegistryError::Keys { path: path.to_owned(), reason })
}

/// The ring that the file holds; errors say where it is wrong and not what stands there.
fn parse(bytes: &[u8]) -> Result<KeyRing, String> {
    let place = |error: serde_json::Error| format!("wrong at line {}, column {}", error.line(), error.column());
    let content: Content<Vec<Value>> = serde_json::from_slice(bytes).map_err(place)?;
    if content.version != VERSION {
        return Err(format!("it has version {}, and this program knows {VERSION}", content.version));
    }
    if content.keys.is_empty() {
        return Err("there is no key in it".to_owned());
    }
    if !content.keys.iter().all(is_whole) {
        return Err("a key in it is not whole".to_owned());
    }
    serde_json::from_value(Value::Array(content.keys)).map_err(|_| "a key in it is not whole".to_owned())
}

/// Whether a key has an id and 256 bits: a cut one would still sign.
fn is_whole(key: &Value) -> bool {
    let text = |name| key.get(name).and_then(Value::as_str).unwrap_or_default();
    let secret = text("secret");
    !text("id").is_empty()
        && secret.len() == 43
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Writes a new file beside the old one and puts it in its place: after a crash there is one or the other.
fn save(path: &Path, ring: &KeyRing) -> std::io::Result<()> {
    let text = serde_json::to_vec_pretty(&Content { version: VERSION, keys: ring })?;
    let beside = path.with_extension("json.new");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let renamed = written.and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if let Err(error) = renamed {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exedra_proto::ids::{RegistrationId, TokenId};
    use exedra_proto::introduction::Client;
    use exedra_proto::ticket::{EXECUTOR_TICKET_SECS, Role, Shape};

    const DAY: u64 = 86_400;

    fn ticket(keys: &SigningKeys, now: u64) -> String {
        let claims = Claims {
            registration: RegistrationId::new("r"),
            role: Role::Executor,
            shape: Shape::Pair,
            epoch: 1,
            token: TokenId::new("t"),
            issued_at: now,
            expires_at: now + EXECUTOR_TICKET_SECS,
            ticket_id: "j".into(),
            client: Client::default(),
        };
        let url = keys.sign("ws://h", &claims).unwrap();
        url.expose().split_once('?').unwrap().1.to_owned()
    }

    fn is_good(keys: &SigningKeys, ticket: &str, now: u64) -> bool {
        keys.ring().read().unwrap().verify("r", ticket, now).is_ok()
    }

    #[test]
    fn keys_outlive_the_process_and_only_the_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let old = ticket(&SigningKeys::open(path.clone(), 100, DAY).unwrap(), 100);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let keys = SigningKeys::open(path.clone(), 200, DAY).unwrap();
        assert!(is_good(&keys, &old, 200));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "tightened");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn rotation_leaves_open_tickets_good_for_their_life() {
        let dir = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open(dir.path().join("keys.json"), 0, 7 * DAY).unwrap();
        assert!(!keys.rotate_if_due(7 * DAY - 1).unwrap());
        let old = ticket(&keys, 7 * DAY - 1);
        assert!(keys.rotate_if_due(7 * DAY).unwrap());
        let new = ticket(&keys, 7 * DAY);
        assert_ne!(old.split("kid=").nth(1), new.split("kid=").nth(1));
        for at in [7 * DAY, 8 * DAY - 2] {
            assert!(is_good(&keys, &old, at) && is_good(&keys, &new, at));
        }
        let again = SigningKeys::open(dir.path().join("keys.json"), 8 * DAY - 2, 7 * DAY).unwrap();
        assert!(is_good(&again, &old, 8 * DAY - 2), "after a restart as well");
        keys.rotate(30 * DAY).unwrap();
        assert_eq!(keys.ring().read().unwrap().len(), 2, "the first is gone, the second's tickets may live");
    }

    #[test]
    fn a_key_made_while_the_clock_was_ahead_is_replaced_once_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let keys = SigningKeys::open(dir.path().join("keys.json"), DAY, 7 * DAY).unwrap();
        assert!(keys.rotate_if_due(10 * DAY).unwrap(), "the clock leaps");
        let leapt = ticket(&keys, 10 * DAY);
        assert!(!keys.rotate_if_due(10 * DAY - AHEAD).unwrap(), "a clock may be set back a little");
        assert!(keys.rotate_if_due(DAY + 60).unwrap(), "and is right again");
        assert!(!keys.rotate_if_due(DAY + 61).unwrap(), "once");
        let last = keys.list().pop().unwrap();
        assert_eq!((last.created_at, last.signs), (DAY + 60, true));
        assert!(is_good(&keys, &ticket(&keys, DAY + 61), DAY + 61) && is_good(&keys, &leapt, 10 * DAY));
        assert!(!keys.rotate_if_due(8 * DAY + 59).unwrap() && keys.rotate_if_due(8 * DAY + 60).unwrap(), "in its time");
    }

    #[test]
    fn a_damaged_file_is_told_and_never_repeated_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        SigningKeys::open(path.clone(), 100, DAY).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let secret = good.split("\"secret\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let damaged = [
            String::new(),
            "nonsense".to_owned(),
            good[..good.len() - 10].to_owned(),
            r#"{"version":1,"keys":[]}"#.to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace(&secret, ""),
            good.replace(&secret, &secret[1..]),
            good.replace(&secret, &format!("{}!", &secret[1..])),
            good.replace("\"created_at\": 100", &format!("\"created_at\": \"{secret}\"")),
            format!("\"{secret}\""),
            format!("{{\"version\":\"{secret}\",\"keys\":[]}}"),
        ];
        for text in damaged {
            std::fs::write(&path, &text).unwrap();
            let error = SigningKeys::open(path.clone(), 100, DAY).unwrap_err();
            assert!(matches!(error, RegistryError::Keys { .. }), "{error:?}");
            assert!(error.hint().is_some());
            assert!(!format!("{error} {error:?}").contains(&secret[1..]), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_key_that_cannot_be_saved_does_not_sign() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let keys = SigningKeys::open(path.clone(), 0, DAY).unwrap();
        std::fs::create_dir(path.with_extension("json.new")).unwrap();
        assert!(keys.rotate(DAY).is_err());
        assert_eq!(keys.ring().read().unwrap().len(), 1);
        std::fs::remove_dir(path.with_extension("json.new")).unwrap();
        keys.rotate(DAY).unwrap();
        assert_eq!(keys.ring().read().unwrap().len(), 2);
    }

    #[test]
    fn what_a_revoked_key_signed_is_worth_nothing_and_another_signs_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let keys = SigningKeys::open(path.clone(), 0, 7 * DAY).unwrap();
        let first = ticket(&keys, 0);
        keys.rotate(10).unwrap();
        let second = ticket(&keys, 10);
        let [old, new] = &keys.list()[..] else { panic!("two keys") };
        assert_eq!((old.signs, new.signs, new.created_at), (false, true, 10));
        assert!(!keys.revoke("k0-nobody", 11).unwrap());
        assert!(keys.revoke(&old.id, 11).unwrap());
        assert!(!is_good(&keys, &first, 11) && is_good(&keys, &second, 11));
        assert_eq!(keys.list(), std::slice::from_ref(new), "no other is needed");
        assert!(keys.revoke(&new.id, 12).unwrap());
        assert!(!is_good(&keys, &second, 12) && is_good(&keys, &ticket(&keys, 12), 12));
        let last = keys.list();
        assert!(last.len() == 1 && last[0].signs && last[0].id != new.id);
        let again = SigningKeys::open(path.clone(), 13, 7 * DAY).unwrap();
        assert!(again.list() == last && !is_good(&again, &second, 13), "after a restart as well");
        std::fs::create_dir(path.with_extension("json.new")).unwrap();
        assert!(keys.revoke(&last[0].id, 14).is_err());
        assert_eq!(keys.list(), last, "what cannot be saved changes nothing");
    }
}
