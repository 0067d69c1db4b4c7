//! Dialect E: registrations signed as AWS does, checked against a signer of the tests' own.

use exedra_proto::ticket::{Role as TicketRole, Shape};
use exedra_registry::token::{Pattern, Role};
use exedra_registry::{NewToken, PublicUrl};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Response;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::environment::key;
use crate::support::{START, Site, refusal, site};

const BODY: &str = r#"{"transport":"direct_jsonrpc_v1"}"#;
/// [`START`], as a signer writes it.
const DATE: &str = "20270115T080000Z";

struct Signer {
    access_key: String,
    secret: String,
    date: String,
    region: String,
    host: String,
    path: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

impl Signer {
    async fn new(site: &Site, executors: &str) -> Self {
        Self::with(site, NewToken { executors: Pattern::parse(executors).unwrap(), ..NewToken::of(Role::Executor) })
            .await
    }

    async fn with(site: &Site, new: NewToken) -> Self {
        let token = site.registry.tokens().create(new).await.unwrap();
        let pair = site.registry.tokens().aws(token.record.id.as_str()).await.unwrap();
        assert!(!format!("{pair:?}").contains(pair.secret_access_key.expose()));
        Self {
            access_key: pair.access_key_id,
            secret: pair.secret_access_key.expose().to_owned(),
            date: DATE.to_owned(),
            region: "us-east-1".to_owned(),
            host: site.base.strip_prefix("http://").unwrap().to_owned(),
            path: "/cloud/environment/box/direct/register".to_owned(),
        }
    }

    fn at(mut self, date: &str) -> Self {
        date.clone_into(&mut self.date);
        self
    }

    fn authorization(&self, body: &str) -> String {
        let day = &self.date[..8];
        let body = hex(&Sha256::digest(body));
        let headers = format!("content-type:application/json\nhost:{}\nx-amz-date:{}\n", self.host, self.date);
        let canonical = format!("POST\n{}\n\n{headers}\ncontent-type;host;x-amz-date\n{body}", self.path);
        let scope = format!("{day}/{}/execute-api/aws4_request", self.region);
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.date, hex(&Sha256::digest(canonical)));
        let key = scope.split('/').fold(format!("AWS4{}", self.secret).into_bytes(), |key, part| mac(&key, part));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=content-type;host;x-amz-date, Signature={}",
            self.access_key,
            hex(&mac(&key, &text))
        )
    }

    async fn send(&self, site: &Site, authorization: &str, body: &str) -> Response {
        let request = site.http.post(format!("{}/cloud/environment/box/direct/register", site.base));
        let request = request.header("content-type", "application/json").header("x-amz-date", &self.date);
        request.header("authorization", authorization).body(body.to_owned()).send().await.unwrap()
    }

    async fn register(&self, site: &Site) -> Response {
        self.send(site, &self.authorization(BODY), BODY).await
    }
}

#[tokio::test]
async fn a_signed_registration_is_answered_and_its_ticket_is_for_one_client_at_a_time() {
    let (site, _dir) = site().await;
    let signer = Signer::new(&site, "*").await;
    let reply = signer.register(&site).await;
    assert_eq!(reply.status(), 200);
    let reply: Value = reply.json().await.unwrap();
    let members: Vec<_> = reply.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["environment_id", "registration_id", "transport", "url"]);
    assert_eq!((&reply["environment_id"], &reply["transport"]), (&"box".into(), &"direct_jsonrpc_v1".into()));
    let claims = site.verify(reply["url"].as_str().unwrap()).unwrap();
    assert_eq!((claims.role, claims.shape, claims.issued_at), (TicketRole::Executor, Shape::Pair, START));
    refusal(signer.register(&site).await, 403, "signature_replayed").await;
    let later = signer.at("20270115T080001Z").register(&site).await;
    assert_eq!(later.status(), 200, "a second later it signs anew");
}

#[tokio::test]
async fn what_is_wrong_with_a_signature_is_told() {
    let (site, _dir) = site().await;
    let signer = Signer::new(&site, "*").await;
    let good = signer.authorization(BODY);
    refusal(signer.send(&site, &good, r#"{"transport":"other"}"#).await, 401, "unauthenticated").await;
    refusal(signer.send(&site, &good.replace("content-type;", ""), BODY).await, 401, "unauthenticated").await;
    refusal(signer.send(&site, &good.replace(";x-amz-date", ""), BODY).await, 400, "signature_invalid").await;
    refusal(signer.send(&site, &good.replace("Signature=", "Signature=0"), BODY).await, 400, "signature_invalid").await;
    refusal(signer.send(&site, "Bearer x", BODY).await, 401, "unauthenticated").await;
    for (date, status, code) in
        [("20270115T075459Z", 403, "signature_skewed"), ("20270115T080501Z", 403, "signature_skewed")]
    {
        let off = Signer::new(&site, "*").await.at(date);
        refusal(off.register(&site).await, status, code).await;
    }
    let elsewhere = Signer { region: "eu-west-1".to_owned(), ..Signer::new(&site, "*").await };
    refusal(elsewhere.register(&site).await, 403, "signature_scope").await;
    let stranger = Signer { secret: "x".to_owned(), ..Signer::new(&site, "*").await };
    refusal(stranger.register(&site).await, 401, "unauthenticated").await;
    let nobody = Signer { access_key: "EXED0000000000000000".to_owned(), ..Signer::new(&site, "*").await };
    refusal(nobody.register(&site).await, 401, "unauthenticated").await;
    let other = Signer { path: "/cloud/environment/lab/direct/register".to_owned(), ..Signer::new(&site, "*").await };
    refusal(other.register(&site).await, 401, "unauthenticated").await;
    assert_eq!(signer.send(&site, &good, BODY).await.status(), 200, "what was refused used nothing up");
}

#[tokio::test]
async fn the_token_behind_a_signature_decides_what_it_may() {
    let (site, _dir) = site().await;
    refusal(Signer::new(&site, "lab-*").await.register(&site).await, 403, "forbidden").await;
    refusal(Signer::with(&site, NewToken::of(Role::Client)).await.register(&site).await, 403, "forbidden").await;
    let token = site.registry.tokens().create(NewToken::of(Role::Executor)).await.unwrap().record.id;
    let pair = site.registry.tokens().aws(token.as_str()).await.unwrap();
    site.registry.tokens().revoke(token.as_str()).await.unwrap();
    let secret = pair.secret_access_key.expose().to_owned();
    let revoked = Signer { access_key: pair.access_key_id, secret, ..Signer::new(&site, "*").await };
    refusal(revoked.register(&site).await, 401, "unauthenticated").await;
    assert!(site.registry.tokens().aws("tok-0000000000000000").await.is_err());
    assert!(site.registry.tokens().aws("exedra_x_secret").await.is_err());
}

#[tokio::test]
async fn behind_a_proxy_the_public_url_may_have_been_signed() {
    let (site, _dir) = site().await;
    site.registry.set_public_url(PublicUrl::parse("https://hub.example/codex").unwrap());
    let path = "/codex/cloud/environment/box/direct/register".to_owned();
    let outside = Signer { host: "hub.example".to_owned(), path, ..Signer::new(&site, "*").await };
    assert_eq!(outside.register(&site).await.status(), 200);
    let elsewhere = Signer { host: "evil.example".to_owned(), ..Signer::new(&site, "*").await };
    refusal(elsewhere.register(&site).await, 401, "unauthenticated").await;
}

#[tokio::test]
async fn a_name_that_is_bound_to_a_key_is_not_for_those_who_have_none() {
    let (site, _dir) = Site::with(|config| config.bind_keys = true).await;
    let signer = Signer::new(&site, "*").await;
    let send = async || signer.send(&site, &signer.authorization(BODY), BODY).await;
    let keyed = json!({"security_profile": "noise_hybrid_ik_v1", "executor_public_key": key(1)}).to_string();
    assert_eq!(site.post("/cloud/environment/box/register", &site.admin, keyed).await.status(), 200);
    refusal(send().await, 403, "executor_key_bound").await;
}
