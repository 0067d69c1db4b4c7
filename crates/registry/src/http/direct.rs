//! `POST /cloud/environment/{id}/direct/register`: dialect E, signed with AWS Signature Version 4.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use exedra_proto::registry::DirectRegisterReply;

use super::problem::{Problem, ProblemBody};
use super::{credentials, limits};
use crate::service::Service;
use crate::sigv4::Request;

/// Registers an executor; instead of a bearer token, the request is signed (AWS Signature Version 4)
#[utoipa::path(
    post, operation_id = "register_direct", path = "/cloud/environment/{id}/direct/register", tag = "stock",
    params(("id" = String, Path, description = "the executor's id")),
    request_body(content = Object, example = json!({"transport": "direct_jsonrpc_v1"})),
    responses((status = 200, body = Object), (status = "4XX", body = ProblemBody), (status = "5XX", body = ProblemBody)),
)]
pub async fn register(
    State(service): State<Arc<Service>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DirectRegisterReply>, Problem> {
    let bytes = limits::bytes(body).await?;
    let headers = signed(&headers, &uri);
    let request = Request {
        method: "POST",
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
        body: &bytes,
    };
    let permit = service.permit_signed(&request, &credentials::segment(id)).await?;
    let wanted = "direct registration needs a JSON body with transport";
    let request = limits::object(&bytes, wanted).map_err(Problem::body_invalid)?;
    Ok(Json(service.register_direct(&permit, &request).await?))
}

/// The headers as they are signed. One that is no text cannot be signed, and is left out.
fn signed(headers: &HeaderMap, uri: &Uri) -> BTreeMap<String, String> {
    let mut signed = BTreeMap::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let joined: &mut String = signed.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value);
    }
    if let (false, Some(authority)) = (signed.contains_key("host"), uri.authority()) {
        signed.insert("host".to_owned(), authority.as_str().to_owned());
    }
    signed
}
