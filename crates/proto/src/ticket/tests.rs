use super::*;
use crate::rights::Rights;

fn ring() -> KeyRing {
    KeyRing::new(vec![SigningKey::generate(100).unwrap()])
}

fn claims() -> Claims {
    Claims {
        registration: RegistrationId::new("reg-1"),
        role: Role::Harness,
        shape: Shape::Pair,
        epoch: 3,
        token: TokenId::new("tok-a&b=c"),
        issued_at: 1000,
        expires_at: 1060,
        ticket_id: "j1".into(),
        client: Client { name: "c&i".into(), labels: vec!["team=ml".into()], rights: Rights::parse("exec").unwrap() },
    }
}

fn query(ring: &KeyRing, claims: &Claims) -> String {
    let url = ring.sign("ws://h:1", claims).unwrap();
    let (head, query) = url.expose().split_once('?').unwrap();
    assert_eq!(head, "ws://h:1/rendezvous/reg%2D1");
    query.to_owned()
}

#[test]
fn a_ticket_says_what_was_signed_and_has_a_literal_role() {
    let ring = ring();
    let query = query(&ring, &claims());
    assert!(query.starts_with("role=harness&"), "{query}");
    assert_eq!(ring.verify("reg-1", &query, 1059).unwrap(), claims());
}

#[test]
fn every_alteration_is_refused() {
    let ring = ring();
    let query = query(&ring, &claims());
    let verify = |query: &str| ring.verify("reg-1", query, 1001).unwrap_err();
    assert_eq!(ring.verify("reg-1", &query, 1060), Err(Rejection::Expired));
    assert_eq!(ring.verify("reg-2", &query, 1001), Err(Rejection::InvalidSignature));
    for (from, to) in [("harness", "executor"), ("epoch=3", "epoch=4"), ("exp=1060", "exp=9999"), ("jti=j1", "jti=j2")]
    {
        assert_eq!(verify(&query.replace(from, to)), Rejection::InvalidSignature, "{from}");
    }
    assert_eq!(verify(&query.replace("role=harness&", "")), Rejection::MissingRole);
    assert_eq!(verify(&query.replace("exp=1060&", "")), Rejection::MissingExpiry);
    assert_eq!(verify(query.split("&sig=").next().unwrap()), Rejection::MissingSignature);
    let (before, behind) = query.split_once("&cli=").unwrap();
    let (client, behind) = behind.split_once('&').unwrap();
    assert_eq!(verify(&format!("{before}&{behind}")), Rejection::InvalidSignature, "nothing is said of the client");
    let all = serde_json::to_vec(&Client::default()).unwrap();
    let all = escape(&URL_SAFE_NO_PAD.encode(all));
    assert_eq!(verify(&query.replace(client, &all)), Rejection::InvalidSignature, "more is said of it");
    assert_eq!(verify(&format!("{query}&cli={all}")), Rejection::MalformedQuery);
    assert_eq!(verify(&format!("{query}&x=1")), Rejection::ExtraQueryParam);
    assert_eq!(verify(&format!("{query}&role=executor")), Rejection::MalformedQuery);
    assert_eq!(verify(""), Rejection::MissingRole);
}

#[test]
fn an_executors_ticket_says_nothing_of_a_client_and_one_from_before_allows_all() {
    let ring = ring();
    let executor = Claims { role: Role::Executor, ..claims() };
    let query = query(&ring, &executor);
    assert!(!query.contains("cli="), "{query}");
    assert_eq!(ring.verify("reg-1", &query, 1_001).unwrap().client, Client::default());
    let mut parts = Parts::of(&claims(), &ring.keys()[0].id);
    parts.client = None;
    let signature = URL_SAFE_NO_PAD.encode(ring.keys()[0].mac(&parts.canonical()).finalize().into_bytes());
    let before = ring.verify("reg-1", &format!("{}&sig={signature}", parts.query()), 1_001).unwrap();
    assert_eq!(before, Claims { client: Client::default(), ..claims() });
    parts.client = Some("!".into());
    let signature = URL_SAFE_NO_PAD.encode(ring.keys()[0].mac(&parts.canonical()).finalize().into_bytes());
    let verdict = ring.verify("reg-1", &format!("{}&sig={signature}", parts.query()), 1_001);
    assert_eq!(verdict, Err(Rejection::MalformedQuery));
}

#[test]
fn a_ticket_from_the_future_or_with_an_impossible_life_is_refused() {
    let ring = ring();
    let verdict = |issued_at: u64, expires_at: u64, now: u64| {
        let claims = Claims { issued_at, expires_at, ..claims() };
        ring.verify("reg-1", &query(&ring, &claims), now).map(|claims| claims.issued_at)
    };
    assert_eq!(verdict(1_060, 1_100, 1_000), Ok(1_060), "clocks are set");
    assert_eq!(verdict(1_061, 1_100, 1_000), Err(Rejection::InvalidExpiry));
    let longest = 1_000 + EXECUTOR_TICKET_SECS;
    assert_eq!(verdict(1_000, longest, longest - 1), Ok(1_000));
    assert_eq!(verdict(1_000, longest, longest), Err(Rejection::Expired));
    for (issued_at, expires_at) in [(1_000, longest + 1), (1_000, 1_000), (1_001, 1_000), (0, u64::MAX)] {
        assert_eq!(verdict(issued_at, expires_at, 1_000), Err(Rejection::InvalidExpiry), "{issued_at} {expires_at}");
    }
    assert_eq!(verdict(u64::MAX - 1, u64::MAX, u64::MAX - 30), Ok(u64::MAX - 1), "no sum wraps around");
    let forged = query(&ring, &Claims { expires_at: longest + 1, ..claims() }).replace("jti=j1", "jti=j2");
    assert_eq!(ring.verify("reg-1", &forged, 1_000), Err(Rejection::InvalidSignature), "the signature comes first");
}

#[test]
fn rotation_keeps_open_tickets_good_and_then_forgets() {
    let mut ring = ring();
    let mut executor = claims();
    executor.role = Role::Executor;
    executor.expires_at = 1000 + EXECUTOR_TICKET_SECS;
    let old = query(&ring, &executor);
    ring.rotate(SigningKey::generate(2000).unwrap(), 2000);
    assert!(ring.verify("reg-1", &old, 2001).is_ok());
    let later = 2000 + EXECUTOR_TICKET_SECS;
    ring.rotate(SigningKey::generate(later).unwrap(), later);
    assert_eq!(ring.len(), 2);
    assert_eq!(ring.verify("reg-1", &old, 2001), Err(Rejection::InvalidSignature));
}
