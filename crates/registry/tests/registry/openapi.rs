//! The document that describes the interface: kept beside the code, true, and good enough to drive every operation from.

use std::path::Path;

use exedra_registry::token::Role;
use exedra_registry::{NewToken, openapi_text};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::site;

#[test]
fn the_document_that_is_kept_is_the_one_that_is_served() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let made = openapi_text(None).unwrap();
    if std::env::var_os("EXEDRA_WRITE_DOCS").is_some() {
        std::fs::write(&kept, &made).unwrap();
    }
    let kept = std::fs::read_to_string(kept).unwrap_or_default();
    assert!(kept == made, "docs/openapi.json is old: run this test with EXEDRA_WRITE_DOCS=1");
}

/// Why `value` is not what `schema` says; none, if it is.
fn wrong(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return wrong(document, document.pointer(reference.trim_start_matches('#')).unwrap(), value);
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        let fits = one_of.iter().any(|schema| wrong(document, schema, value).is_none());
        return (!fits).then(|| format!("{value} is none of {one_of:?}"));
    }
    let types: Vec<_> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other}"),
    };
    if !types.iter().any(is) {
        return Some(format!("{value} is no {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Some(format!("{value} is none of {words:?}"));
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|_| value.is_object()).find(|name| value.get(name).is_none());
    if let Some(missing) = missing {
        return Some(format!("{missing} is missing in {value}"));
    }
    let members = value.as_object().into_iter().flatten().find_map(|(name, member)| {
        match (schema["properties"].get(name), schema["additionalProperties"].is_object()) {
            (Some(schema), _) => wrong(document, schema, member),
            (None, true) => wrong(document, &schema["additionalProperties"], member),
            (None, false) => schema["properties"].is_object().then(|| format!("{name} is in no schema")),
        }
    });
    members.or_else(|| value.as_array()?.iter().find_map(|item| wrong(document, &schema["items"], item)))
}

#[tokio::test]
async fn every_operation_does_what_the_document_says() {
    let (site, _dir) = site().await;
    let served: Value = site.get("/v1/openapi.json").await.json().await.unwrap();
    assert_eq!(served["openapi"], "3.1.0");
    let order = |method: &str| ["get", "put", "post", "delete"].iter().position(|known| *known == method).unwrap();
    let mut operations: Vec<_> = served["paths"]
        .as_object()
        .unwrap()
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
        })
        .collect();
    operations.sort_by_key(|(path, method, _)| (order(method), *path));
    for (path, method, operation) in operations {
        let registration = site.executor("box").await;
        site.served(&registration);
        site.http
            .delete(format!("{}/v1/executors/box/drain", site.base))
            .bearer_auth(&site.admin)
            .send()
            .await
            .unwrap();
        let token = site.registry.tokens().create(NewToken::of(Role::Client)).await.unwrap();
        let keys: Value = serde_json::to_value(&*site.registry.key_ring().read().unwrap()).unwrap();
        let id = match path {
            path if path.contains("/tokens/") => token.record.id.as_str(),
            path if path.contains("/keys/") => keys[0]["id"].as_str().unwrap(),
            _ => "box",
        };
        let url = format!("{}{}", site.base, path.replace("{id}", id));
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let bearer = if path == "/v1/join" { &site.token(Role::Join, "gpu-7").await } else { &site.admin };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let query = parameters.filter(|one| one["in"] == "query" && !one["example"].is_null());
        let query: Vec<_> = query.map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["example"])).collect();
        let url = if query.is_empty() { url } else { format!("{url}?{}", query.join("&")) };
        let mut request = site.http.request(method.clone(), url).bearer_auth(bearer);
        let example = operation.pointer("/requestBody/content/application~1json/example");
        if let Some(example) = example.filter(|example| !example.is_null()) {
            request = request.body(example.to_string());
        }
        let stranger = site.http.request(method.clone(), request.try_clone().unwrap().build().unwrap().url().clone());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let what = format!("{method} {path}: {status}");
        let is_own = path.starts_with("/v1/");
        assert!(!is_own || (200..300).contains(&status), "{what}: {}", response.text().await.unwrap());
        check(&served, operation, &what, response).await;
        if operation["security"] != json!([{}]) {
            let refused = stranger.send().await.unwrap();
            assert_eq!(refused.status(), 401, "{what}");
            check(&served, operation, &what, refused).await;
        }
    }
    let problem = site.get("/v1/executors").await;
    let schema = json!({"$ref": "#/components/schemas/ProblemBody"});
    assert_eq!(wrong(&served, &schema, &problem.json().await.unwrap()), None);
}

/// An answer has the form and the body that the document names for its status.
async fn check(served: &Value, operation: &Value, what: &str, response: reqwest::Response) {
    let status = response.status().as_u16();
    let responses = &operation["responses"];
    let answer = responses.get(status.to_string()).or_else(|| responses.get(format!("{}XX", status / 100)));
    let answer = answer.unwrap_or_else(|| panic!("{what}: {status} is not in the document"));
    let form = response.headers().get("content-type").map(|form| form.to_str().unwrap().to_owned());
    let Some(form) = form.as_deref().and_then(|form| form.split(';').next()) else {
        return assert!(answer.get("content").is_none(), "{what}: nothing is sent");
    };
    let content = answer["content"].get(form).unwrap_or_else(|| panic!("{what}: {status} has no {form}: {answer}"));
    if form.ends_with("json") {
        let body: Value = response.json().await.unwrap();
        assert_eq!(wrong(served, &content["schema"], &body), None, "{what}");
    }
}
