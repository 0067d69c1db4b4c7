//! The real executor and the model beside each other.

use std::collections::BTreeMap;

use exedra_executor::ExecutorConfig;
use exedra_proto::base64::Base64Text;
use exedra_proto::path::to_uri;
use serde_json::{Value, json};

use super::ops::{Act, Deed, Kind, Op, SLOTS};
use crate::bench::{Bench, Client, config, within};

/// Sessions that there may be.
const MAX_SESSIONS: usize = 3;

pub type Outcome = Result<(), String>;

/// A process as the model has it.
struct Process {
    kind: Kind,
    /// All that it may ever say.
    may: Vec<u8>,
    /// How much of it has been seen.
    seen: usize,
    /// How much of it must be there at the end.
    must: usize,
    /// What may have ended it: the deed, and the code.
    causes: Vec<(u64, i64)>,
    /// Whether the end of its input was asked for.
    closing: bool,
    /// The id and length of the last write.
    last_write: Option<(String, i64)>,
}

#[derive(Default)]
struct Session {
    id: String,
    held: bool,
    processes: BTreeMap<u8, Process>,
}

/// How far a handshake is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    New,
    Opened,
    Ready,
}

struct Slot {
    client: Client,
    gate: Gate,
    session: Option<usize>,
    extension: bool,
    pending: Vec<(i64, Expected)>,
    files: BTreeMap<u8, u8>,
}

/// What the answer to a request has to be.
#[derive(Clone, Debug)]
enum Expected {
    Exactly(Value),
    Error(i64, String),
    Info,
    List,
    Write(u8),
    Close(u8),
    /// With at least as much as was seen when it was asked for: readings run beside each other.
    Read(u8, usize),
    /// By a deed of that number.
    Terminate(u8, u64),
}

pub struct World {
    bench: Bench,
    slots: [Option<Slot>; SLOTS],
    sessions: Vec<Session>,
    dir: tempfile::TempDir,
    deeds: u64,
}

impl World {
    pub fn new() -> Self {
        let bench = Bench::with(ExecutorConfig { max_sessions: MAX_SESSIONS, ..config() });
        let dir = tempfile::tempdir().unwrap();
        (0..SLOTS).for_each(|slot| std::fs::create_dir(dir.path().join(slot.to_string())).unwrap());
        Self { bench, slots: [const { None }; SLOTS], sessions: Vec::new(), dir, deeds: 0 }
    }

    pub async fn apply(&mut self, op: Op) -> Outcome {
        let at = op.slot;
        if self.slots[at].is_none() {
            let client = self.bench.connect();
            let (pending, files) = (Vec::new(), self.files(at));
            let extension = at % 2 == 1;
            self.slots[at] = Some(Slot { client, gate: Gate::New, session: None, extension, pending, files });
        }
        if op.polite && !matches!(op.act, Act::Initialize(_) | Act::Initialized | Act::Vanish) {
            self.shake_hands(at).await?;
        }
        match op.act {
            Act::Initialize(resume) => self.initialize(at, resume).await,
            Act::Initialized => {
                self.initialized(at).await;
                Ok(())
            }
            Act::Vanish => {
                self.settle(at).await?;
                self.vanish(at).await;
                Ok(())
            }
            Act::Settle => self.settle(at).await,
            Act::On(process, deed) => self.deed(at, process, deed).await,
            Act::List if self.slot(at).extension && self.slot(at).gate == Gate::Ready => {
                self.post(at, "exec", "process/list", json!({}), Expected::List).await
            }
            Act::List => Ok(()),
            Act::Info => self.post(at, "environment info", "environment/info", Value::Null, Expected::Info).await,
            Act::Unknown => {
                let text = "exec-server stub does not implement `no/such` yet".to_owned();
                let id = self.slot(at).client.post("no/such", json!({})).await;
                self.slot(at).pending.push((id, Expected::Error(-32601, text)));
                Ok(())
            }
            Act::WriteFile(..) | Act::ReadFile(_) | Act::RemoveFile(_) => self.file(at, op.act).await,
        }
    }

    /// Ends all that runs, and compares what each process said and how it ended.
    pub async fn end(&mut self) -> Outcome {
        for at in 0..SLOTS {
            if self.slots[at].is_some() {
                self.settle(at).await?;
                self.vanish(at).await;
            }
        }
        for number in 0..self.sessions.len() {
            let mut client = self.bench.connect();
            let opened = client.resume(&self.sessions[number].id).await;
            same(&opened["result"]["sessionId"], &json!(self.sessions[number].id))?;
            for (id, process) in &self.sessions[number].processes {
                process.end(&mut client, &name(*id)).await.map_err(|why| format!("{}: {why}", name(*id)))?;
            }
        }
        self.bench.executor.shutdown().await;
        Ok(())
    }

    fn slot(&mut self, at: usize) -> &mut Slot {
        self.slots[at].as_mut().unwrap()
    }

    /// What is in the directory of a slot.
    fn files(&self, at: usize) -> BTreeMap<u8, u8> {
        let entries = std::fs::read_dir(self.dir.path().join(at.to_string())).unwrap();
        let file = |path: std::path::PathBuf| {
            let byte = std::fs::read(&path).unwrap()[0];
            (path.file_name().unwrap().to_str().unwrap().parse().unwrap(), byte)
        };
        entries.map(|entry| file(entry.unwrap().path())).collect()
    }

    async fn vanish(&mut self, at: usize) {
        let Some(slot) = self.slots[at].take() else { return };
        slot.client.vanish();
        self.bench.served().await;
        if let Some(session) = slot.session {
            self.sessions[session].held = false;
        }
    }

    /// Whatever of the handshake is missing; where there is no session to be had, nothing.
    async fn shake_hands(&mut self, at: usize) -> Outcome {
        if self.slot(at).gate == Gate::New {
            let free = self.sessions.iter().position(|session| !session.held);
            let resume = if self.sessions.len() < MAX_SESSIONS { None } else { free };
            if resume.is_none() && self.sessions.len() == MAX_SESSIONS {
                return Ok(());
            }
            self.initialize(at, resume.and_then(|n| u8::try_from(n).ok())).await?;
        }
        if self.slot(at).gate == Gate::Opened {
            self.initialized(at).await;
        }
        Ok(())
    }

    async fn initialized(&mut self, at: usize) {
        let slot = self.slot(at);
        // Too early it is answered as a message that is none; `odd` has that.
        if slot.gate != Gate::New {
            slot.gate = Gate::Ready;
            slot.client.text(r#"{"method":"initialized","params":{}}"#).await;
        }
    }

    async fn initialize(&mut self, at: usize, resume: Option<u8>) -> Outcome {
        self.settle(at).await?;
        let wanted =
            resume.map(|n| self.sessions.get(usize::from(n)).map_or("nobody", |session| &session.id).to_owned());
        let extensions = self.slot(at).extension.then(|| json!({"exedra/1": {"closeStdin": true, "list": true}}));
        let params = json!({"clientName": "model", "resumeSessionId": wanted, "extensions": extensions});
        let answer = self.slot(at).client.call("initialize", params).await;
        let error = |code: i64, text: String| same(&answer["error"], &json!({"code": code, "message": text}));
        if self.slot(at).gate != Gate::New {
            return error(-32600, "initialize may only be sent once per connection".to_owned());
        }
        let session = match (resume.map(usize::from), wanted) {
            (Some(n), Some(id)) => match self.sessions.get(n) {
                None => return error(-32600, format!("unknown session id {id}")),
                Some(session) if session.held => {
                    return error(-32010, format!("session {id} is already attached to another connection"));
                }
                Some(_) => {
                    same(&answer["result"]["sessionId"], &json!(id))?;
                    n
                }
            },
            _ if self.sessions.len() == MAX_SESSIONS => {
                let text = format!("there are {MAX_SESSIONS} sessions here, and that is as many as may be");
                return error(-32603, text);
            }
            _ => {
                let id = answer["result"]["sessionId"].as_str().ok_or_else(|| answer.to_string())?.to_owned();
                self.sessions.push(Session { id, ..Session::default() });
                self.sessions.len() - 1
            }
        };
        self.sessions[session].held = true;
        let slot = self.slot(at);
        (slot.session, slot.gate) = (Some(session), Gate::Opened);
        Ok(())
    }

    /// Posts a request; one that the handshake forbids is refused whatever is expected.
    async fn post(&mut self, at: usize, group: &str, method: &str, params: Value, expected: Expected) -> Outcome {
        let slot = self.slot(at);
        let id = slot.client.post(method, params).await;
        let refused = |what: &str| Expected::Error(-32600, format!("client must {what} before using {group} methods"));
        let expected = match slot.gate {
            Gate::New => refused("call initialize"),
            Gate::Opened => refused("send initialized"),
            Gate::Ready => expected,
        };
        slot.pending.push((id, expected));
        Ok(())
    }

    async fn file(&mut self, at: usize, act: Act) -> Outcome {
        let ready = self.slot(at).gate == Gate::Ready;
        let path = |file: u8| to_uri(&self.dir.path().join(at.to_string()).join(file.to_string()));
        let (method, params, expected) = match act {
            Act::WriteFile(file, byte) => {
                let params = json!({"path": path(file), "dataBase64": Base64Text::encode(&[byte]).0});
                if ready {
                    self.slot(at).files.insert(file, byte);
                }
                ("fs/writeFile", params, Expected::Exactly(json!({})))
            }
            Act::RemoveFile(file) => {
                let params = json!({"path": path(file)});
                if ready {
                    self.slot(at).files.remove(&file);
                }
                ("fs/remove", params, Expected::Exactly(json!({})))
            }
            Act::ReadFile(file) => {
                let params = json!({"path": path(file)});
                let expected = match self.slot(at).files.get(&file) {
                    Some(byte) => Expected::Exactly(json!({"dataBase64": Base64Text::encode(&[*byte]).0})),
                    None => Expected::Error(-32004, "No such file or directory (os error 2)".to_owned()),
                };
                ("fs/readFile", params, expected)
            }
            other => return Err(format!("{other:?} is none of a file")),
        };
        self.post(at, "filesystem", method, params, expected).await
    }

    async fn deed(&mut self, at: usize, process: u8, deed: Deed) -> Outcome {
        let id = name(process);
        let slot = self.slots[at].as_ref().unwrap();
        let (ready, extension) = (slot.gate == Gate::Ready, slot.extension);
        self.deeds += 1;
        let number = self.deeds;
        let fresh = format!("w{number}");
        let session = slot.session.filter(|_| ready);
        let mut nothing = BTreeMap::new();
        let processes = session.map_or(&mut nothing, |session| &mut self.sessions[session].processes);
        let known = processes.get_mut(&process);
        let only = json!({"processId": id});
        let unknown = |status: &str| Expected::Exactly(json!({"status": status}));
        let (method, params, expected) = match deed {
            Deed::Start(kind) => {
                let expected = match known {
                    Some(_) => Expected::Error(-32600, format!("process {id} already exists")),
                    None => Expected::Exactly(json!({"processId": id, "sandboxType": "none"})),
                };
                if session.is_some() {
                    processes.entry(process).or_insert_with(|| Process::new(kind));
                }
                ("process/start", kind.params(&id), expected)
            }
            Deed::Write(byte) => {
                let bytes = vec![byte; usize::from(byte) * 7];
                let params = json!({"processId": id, "chunk": Base64Text::encode(&bytes).0, "writeId": fresh});
                let expected = known.map(|known| known.written(&bytes, fresh)).map(|()| Expected::Write(process));
                ("process/write", params, expected.unwrap_or(unknown("unknownProcess")))
            }
            Deed::Repeat => {
                let last = known.as_ref().and_then(|known| known.last_write.clone());
                let Some((write, byte)) = last else { return Ok(()) };
                let chunk = Base64Text::encode(&[byte.to_le_bytes()[0]; 3]).0;
                let params = json!({"processId": id, "chunk": chunk, "writeId": write});
                ("process/write", params, Expected::Write(process))
            }
            Deed::CloseStdin => {
                let expected = match known {
                    _ if !extension && ready => {
                        let text = "exec-server stub does not implement `process/closeStdin` yet".to_owned();
                        Expected::Error(-32601, text)
                    }
                    Some(known) if known.kind == Kind::Endless => unknown("stdinClosed"),
                    Some(known) => {
                        known.closed();
                        Expected::Close(process)
                    }
                    None => unknown("unknownProcess"),
                };
                // What is not agreed on is not there.
                if slot.gate == Gate::New || (!extension && !ready) {
                    return Ok(());
                }
                ("process/closeStdin", only, expected)
            }
            Deed::Read | Deed::Poll => {
                let expected = match known {
                    Some(known) => Expected::Read(process, known.seen),
                    None => Expected::Error(-32600, format!("unknown process id {id}")),
                };
                let wait = if matches!(deed, Deed::Poll) { 20 } else { 0 };
                ("process/read", json!({"processId": id, "afterSeq": 0, "waitMs": wait}), expected)
            }
            Deed::Interrupt => {
                let params = json!({"processId": id, "signal": "interrupt"});
                ("process/signal", params, Expected::Exactly(json!({})))
            }
            Deed::Terminate => {
                let none = Expected::Exactly(json!({"running": false}));
                ("process/terminate", only, known.map_or(none, |_| Expected::Terminate(process, number)))
            }
        };
        self.post(at, "exec", method, params, expected).await?;
        let code = match deed {
            Deed::Interrupt => 130,
            Deed::Terminate => 137,
            Deed::CloseStdin => 0,
            _ => return Ok(()),
        };
        let known = session.and_then(|session| self.sessions[session].processes.get_mut(&process));
        if let Some(known) = known.filter(|known| code > 0 || (extension && known.kind == Kind::Echo)) {
            known.causes.push((number, code));
            if code > 0 {
                known.must = known.must.min(known.seen);
            }
        }
        Ok(())
    }

    /// Awaits all answers of a slot and compares them.
    async fn settle(&mut self, at: usize) -> Outcome {
        for (id, expected) in std::mem::take(&mut self.slot(at).pending) {
            let answer = self.slot(at).client.response(id).await;
            let session = self.slot(at).session;
            let mut nothing = BTreeMap::new();
            let processes = session.map_or(&mut nothing, |session| &mut self.sessions[session].processes);
            check(&expected, &answer, processes).map_err(|why| format!("{expected:?}: {why}"))?;
        }
        Ok(())
    }
}

fn check(expected: &Expected, answer: &Value, processes: &mut BTreeMap<u8, Process>) -> Outcome {
    let result = &answer["result"];
    match expected {
        Expected::Exactly(value) => same(result, value).map_err(|_| format!("expected {value}, got {answer}")),
        Expected::Error(code, text) => same(&answer["error"], &json!({"code": code, "message": text})),
        Expected::Info => same(&result["platformOs"], &json!("linux")),
        Expected::List => {
            let listed = result["processes"].as_array().ok_or_else(|| answer.to_string())?;
            let ids = listed.iter().filter_map(|listed| listed["processId"].as_str());
            let strange = ids.into_iter().find(|id| !processes.keys().any(|process| name(*process) == *id));
            strange.map_or(Ok(()), |id| Err(format!("{id} was never started")))
        }
        Expected::Write(process) => {
            let known = known(processes, *process)?;
            let allowed: &[&str] = match known.kind {
                Kind::Endless => &["stdinClosed"],
                Kind::Echo if known.causes.is_empty() => &["accepted"],
                // One that has ended says so by an error.
                _ if answer["error"]["code"] == -32603 => return Ok(()),
                _ => &["accepted", "stdinClosed"],
            };
            one_of(answer, allowed)
        }
        Expected::Close(process) => {
            let known = known(processes, *process)?;
            let first = known.causes.len() == 1 && known.kind == Kind::Echo;
            one_of(answer, if first { &["accepted"] } else { &["accepted", "stdinClosed"] })
        }
        Expected::Read(process, seen) => known(processes, *process)?.read(result, *seen),
        Expected::Terminate(process, number) => {
            let known = known(processes, *process)?;
            let alone = known.kind != Kind::Brief && known.causes.iter().all(|(deed, _)| deed == number);
            match result["running"].as_bool() {
                Some(false) if alone => Err("it was told not to run".to_owned()),
                Some(_) => Ok(()),
                None => Err(answer.to_string()),
            }
        }
    }
}

fn known(processes: &mut BTreeMap<u8, Process>, process: u8) -> Result<&mut Process, String> {
    processes.get_mut(&process).ok_or("the model lost a process".to_owned())
}

impl Process {
    fn new(kind: Kind) -> Self {
        let (may, causes) = match kind {
            Kind::Brief => (b"said".to_vec(), vec![(0, 3)]),
            Kind::Echo | Kind::Endless => (Vec::new(), Vec::new()),
        };
        Self { kind, must: usize::MAX, may, seen: 0, causes, closing: false, last_write: None }
    }

    fn written(&mut self, bytes: &[u8], id: String) {
        self.last_write = Some((id, i64::from(bytes.first().copied().unwrap_or_default())));
        if self.kind == Kind::Echo && !self.closing {
            self.may.extend(bytes);
        }
    }

    fn closed(&mut self) {
        self.closing = true;
    }

    /// How much of what it may say must be there once it has ended.
    fn must(&self) -> usize {
        self.must.min(self.may.len())
    }

    /// A reading from its beginning.
    fn read(&mut self, result: &Value, seen: usize) -> Outcome {
        let reading = Reading::of(result)?;
        if !self.may.starts_with(&reading.bytes) {
            return Err(format!("it said {:?} of {:?}", brief(&reading.bytes), brief(&self.may)));
        }
        if reading.bytes.len() < seen {
            return Err(format!("{} bytes are there, and {seen} were seen before", reading.bytes.len()));
        }
        self.seen = self.seen.max(reading.bytes.len());
        self.ended(&reading)
    }

    fn ended(&self, reading: &Reading) -> Outcome {
        if reading.closed && reading.bytes.len() < self.must() {
            return Err(format!("{} bytes are there of {}", reading.bytes.len(), self.must()));
        }
        match reading.code {
            Some(code) if self.causes.iter().any(|(_, allowed)| *allowed == code) => Ok(()),
            Some(code) => Err(format!("it ended with {code}, and should not, or by {:?}", self.causes)),
            None => Ok(()),
        }
    }

    /// Brings it to its end, and compares all of it.
    async fn end(&self, client: &mut Client, id: &str) -> Outcome {
        let mut after = 0;
        let mut total = 0;
        let mut asked = false;
        let mut causes = self.causes.clone();
        let last = loop {
            let whole = total >= self.must() || self.kind == Kind::Endless;
            if !asked && causes.is_empty() && whole {
                asked = true;
                causes.push((0, 137));
                same(
                    &client.call("process/terminate", json!({"processId": id})).await["result"]["running"],
                    &json!(true),
                )?;
            }
            let params = json!({"processId": id, "afterSeq": after, "waitMs": 5_000});
            let answer = within("the end of a process", client.call("process/read", params)).await;
            let reading = Reading::of(&answer["result"]).map_err(|why| format!("{why}: {answer}"))?;
            total += reading.bytes.len();
            after = reading.next - 1;
            if reading.closed && reading.bytes.is_empty() {
                break reading;
            }
        };
        let whole = client.call("process/read", json!({"processId": id, "afterSeq": 0})).await;
        let mut known = Self { causes, may: self.may.clone(), last_write: None, ..*self };
        known.read(&whole["result"], self.seen)?;
        let pieces = whole["result"]["chunks"].as_array().map_or(0, Vec::len) as u64;
        // The exit and the end have numbers, too.
        same(&json!(last.next), &json!(pieces + 3)).map_err(|why| format!("numbers are missing: {why}"))
    }
}

/// The answer to `process/read`.
struct Reading {
    bytes: Vec<u8>,
    code: Option<i64>,
    closed: bool,
    next: u64,
}

impl Reading {
    fn of(result: &Value) -> Result<Self, String> {
        let chunks = result["chunks"].as_array().ok_or("no chunks")?;
        let mut bytes = Vec::new();
        let mut last = 0;
        for chunk in chunks {
            let seq = chunk["seq"].as_u64().ok_or("no seq")?;
            if seq <= last {
                return Err(format!("{seq} comes after {last}"));
            }
            last = seq;
            bytes.extend(Base64Text(chunk["chunk"].as_str().ok_or("no chunk")?.to_owned()).decode()?);
        }
        let (exited, closed) = (result["exited"] == true, result["closed"] == true);
        let code = result["exitCode"].as_i64();
        if code.is_some() != exited || (closed && !exited) {
            return Err(format!("contradictory: {result}"));
        }
        Ok(Self { bytes, code, closed, next: result["nextSeq"].as_u64().ok_or("no nextSeq")? })
    }
}

impl Kind {
    fn params(self, id: &str) -> Value {
        let argv: &[&str] = match self {
            Self::Echo => &["cat"],
            Self::Brief => &["sh", "-c", "printf said; exit 3"],
            Self::Endless => &["sleep", "1000"],
        };
        let env = json!({"PATH": "/usr/local/bin:/usr/bin:/bin"});
        let stdin = self != Self::Endless;
        json!({"processId": id, "argv": argv, "cwd": "file:///", "env": env, "tty": false, "pipeStdin": stdin})
    }
}

fn name(process: u8) -> String {
    format!("p{process}")
}

fn same(got: &Value, expected: &Value) -> Outcome {
    if got == expected { Ok(()) } else { Err(format!("expected {expected}, got {got}")) }
}

fn one_of(answer: &Value, allowed: &[&str]) -> Outcome {
    let status = answer["result"]["status"].as_str();
    match status.is_some_and(|status| allowed.contains(&status)) {
        true => Ok(()),
        false => Err(format!("expected one of {allowed:?}, got {answer}")),
    }
}

fn brief(bytes: &[u8]) -> String {
    format!("{} bytes, {:?}…", bytes.len(), &bytes[..bytes.len().min(8)])
}
