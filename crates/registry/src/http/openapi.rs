//! `GET /v1/openapi.json`: what this interface is, in OpenAPI 3.1, made from the handlers themselves.
//!
//! The routes flow in, a document flows out; `docs/openapi.json` is the same text, without this server's URL.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use exedra_proto::problem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi, Paths, RefOr, SecurityRequirement, Server};

use super::problem::{Problem, ProblemBody};
use crate::config::PublicUrl;
use crate::service::Service;

/// The document before any route.
pub fn head() -> OpenApi {
    let mut info = Info::new("Exedra", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "The registry: who exists, who may, and where to meet. `/v1` is its own interface, `/cloud` that of stock \
         executors and clients."
            .to_owned(),
    );
    let mut document = OpenApi::new(info, Paths::new());
    let mut components = Components::new();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", bearer);
    document.components = Some(components);
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    document
}

/// The document with the forms in which problems are sent, which handlers do not know: they depend on the path.
pub fn formed(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let form = problem::form(path);
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        let responses = operations.into_iter().flatten().flat_map(|operation| &mut operation.responses.responses);
        for (_, response) in responses.filter(|(status, _)| status.starts_with(['4', '5'])) {
            if let RefOr::T(response) = response {
                let content = std::mem::take(&mut response.content);
                response.content = content.into_values().map(|content| (form.to_owned(), content)).collect();
            }
        }
    }
    document
}

/// The document as it is served, with the URL in `public`; without one as it is kept.
///
/// # Errors
/// It cannot be written as JSON, which cannot be.
pub fn text(public: Option<&str>) -> Result<String, serde_json::Error> {
    let mut document = super::openapi();
    document.servers = public.map(|url| vec![Server::new(url)]);
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

/// This interface
///
/// `servers` names the URL that tickets lead to.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, body = Object), (status = "5XX", body = ProblemBody)),
)]
pub async fn document(State(service): State<Arc<Service>>) -> Result<impl IntoResponse, Problem> {
    let text = text(service.public_url().as_ref().map(PublicUrl::http_base))
        .map_err(|error| Problem::body_invalid(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], text))
}
