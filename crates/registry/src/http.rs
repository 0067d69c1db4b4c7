//! The registry over HTTP: paths, headers and bodies in, service calls and replies out.
//!
//! Handlers know the service and nothing behind it; error bodies are made in `problem` alone. Whoever serves the router
//! sets TCP_NODELAY on accepted sockets, a deadline for reading a request's head (hyper's `header_read_timeout`) and a
//! limit on connections, and leaves `half_close` off: a client that hangs up while it waits must be noticed.

mod connect;
mod credentials;
mod direct;
mod environment;
mod health;
mod journal;
mod limits;
mod openapi;
mod problem;
mod rates;
mod register;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;

pub use openapi::text as openapi_text;

/// The routes over `service`, and answers to all other paths.
pub fn router(service: Arc<Service>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&service), rates::strangers))
        .layer(from_fn_with_state(Arc::clone(&service), journal::request))
        .with_state(service)
}

/// The rendezvous' routes, with strangers charged for their tickets.
pub fn guarded(service: &Service, rendezvous: Router) -> Router {
    rendezvous.layer(from_fn_with_state(Arc::clone(&service.rates), rates::tickets))
}

/// What the routes are, in OpenAPI 3.1.
pub fn openapi() -> OpenApi {
    openapi::formed(routes().split_for_parts().1)
}

/// All routes. What is not here is not served.
fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(register::register))
        .routes(routes!(register::register_environment))
        .routes(routes!(direct::register))
        .routes(routes!(environment::connect))
        .routes(routes!(environment::validate))
        .routes(routes!(connect::connect))
        .routes(routes!(v1::executors::list))
        .routes(routes!(v1::executors::show, v1::executors::forget))
        .routes(routes!(v1::executors::drain, v1::executors::resume))
        .routes(routes!(v1::executors::label))
        .routes(routes!(v1::connections::list))
        .routes(routes!(v1::tokens::list, v1::tokens::create))
        .routes(routes!(v1::tokens::show, v1::tokens::revoke))
        .routes(routes!(v1::tokens::rotate))
        .routes(routes!(v1::join::join))
        .routes(routes!(v1::keys::list))
        .routes(routes!(v1::keys::rotate))
        .routes(routes!(v1::keys::revoke))
        .routes(routes!(v1::events::list))
        .routes(routes!(v1::events::follow))
        .routes(routes!(v1::status::status))
        .routes(routes!(v1::access::list))
        .routes(routes!(openapi::document))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
}
