//! Signing keys through the interface: listed, replaced, revoked.

use std::sync::{Arc, Mutex};

use exedra_proto::close::CloseReason;
use exedra_proto::ids::{RegistrationId, TokenId};
use exedra_proto::plane::Cutoff;
use exedra_proto::ticket::Rejection;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{START, Site, refusal, site};

#[derive(Default)]
struct Cuts(Mutex<Vec<(String, CloseReason)>>);

impl Cutoff for Cuts {
    fn registration(&self, registration: &RegistrationId, _: CloseReason) {
        panic!("{registration} is cut");
    }

    fn token(&self, token: &TokenId, _: CloseReason) {
        panic!("{token} is cut");
    }

    fn key(&self, key_id: &str, reason: CloseReason) {
        self.0.lock().unwrap().push((key_id.to_owned(), reason));
    }
}

async fn ask(site: &Site, method: Method, path: &str) -> Response {
    site.http.request(method, format!("{}{path}", site.base)).bearer_auth(&site.admin).send().await.unwrap()
}

async fn keys(site: &Site, method: Method, path: &str) -> Vec<Value> {
    let response = ask(site, method, path).await;
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.unwrap()["keys"].as_array().unwrap().clone()
}

fn id(key: &Value) -> &str {
    key["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_key_is_replaced_and_revoked_and_what_it_signed_is_cut() {
    let (site, dir) = site().await;
    let cuts = Arc::new(Cuts::default());
    site.registry.set_cutoff(Arc::clone(&cuts) as _);
    let first = site.register("box", "i").await;
    let old = keys(&site, Method::GET, "/v1/keys").await;
    assert_eq!((old.len(), &old[0]["signs"], &old[0]["created_at"]), (1, &json!(true), &json!(START)));
    assert_eq!(old[0].as_object().unwrap().len(), 3, "no secret is among what is shown");
    site.clock.advance(5);
    let both = keys(&site, Method::POST, "/v1/keys/rotate").await;
    assert_eq!((id(&both[0]), &both[0]["signs"], &both[1]["signs"]), (id(&old[0]), &json!(false), &json!(true)));
    assert!(site.verify(first.url.expose()).is_ok(), "open tickets stay good");
    let second = site.register("box", "i").await;
    assert!(cuts.0.lock().unwrap().is_empty());
    let left = keys(&site, Method::DELETE, &format!("/v1/keys/{}", id(&both[0]))).await;
    assert_eq!(left, both[1..]);
    assert_eq!(site.verify(first.url.expose()).unwrap_err(), Rejection::InvalidSignature);
    assert!(site.verify(second.url.expose()).is_ok());
    let anew = keys(&site, Method::DELETE, &format!("/v1/keys/{}", id(&both[1]))).await;
    assert_eq!((anew.len(), &anew[0]["signs"]), (1, &json!(true)));
    assert_eq!(site.verify(second.url.expose()).unwrap_err(), Rejection::InvalidSignature);
    let third = site.register("box", "i").await;
    assert!(site.verify(third.url.expose()).is_ok() && third.id == first.id, "the registration is the same");
    let told = [id(&both[0]), id(&both[1])].map(|key| (key.to_owned(), CloseReason::KeyRevoked));
    assert_eq!(*cuts.0.lock().unwrap(), told);
    let saved = std::fs::read_to_string(dir.path().join("signing-keys.json")).unwrap();
    assert!(saved.contains(id(&anew[0])) && !saved.contains(id(&both[0])) && !saved.contains(id(&both[1])));
    let events: Value = ask(&site, Method::GET, "/v1/events").await.json().await.unwrap();
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 3..], ["key_rotated", "key_revoked", "key_revoked"]);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_told() {
    let (site, _dir) = site().await;
    for unknown in ["k0-00000000", "..%2F..", "%20"] {
        let response = ask(&site, Method::DELETE, &format!("/v1/keys/{unknown}")).await;
        refusal(response, 404, "key_unknown").await;
    }
    assert_eq!(keys(&site, Method::GET, "/v1/keys").await.len(), 1);
}
