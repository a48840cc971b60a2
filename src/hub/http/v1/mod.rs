//! `/api/v1`: the hub's own API. Bodies and queries have only known fields, errors are problem details, lists are pages, and
//! an act with an `Idempotency-Key` is done once. Its description is made of the routes, and served with them.

mod agents;
mod audit;
mod backup;
mod body;
mod drains;
mod events;
mod healing;
mod hub;
mod invitations;
mod labels;
mod once;
mod parameters;
mod problem;
mod restarts;
mod selected;
mod tasks;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::hub::api_error::ApiError;
use crate::hub::http::request::App;
use crate::hub::http::v1::problem::Problem;

/// What the description says beside the routes.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "agentcom-hub",
    description = "Agents, tasks and restarts of one hub. Every request but this description needs a token.",
    license(name = "MIT", identifier = "MIT"),
))]
struct Description;

/// Returns the routes, and their description.
pub(super) fn router() -> Router<Arc<App>> {
    let (router, description) = described();
    // Plain data with string keys: this cannot fail.
    let text: Arc<str> = serde_json::to_string(&description).unwrap_or_default().into();
    let serve = move || {
        let text = text.to_string();
        async move { ([(header::CONTENT_TYPE, "application/json")], text).into_response() }
    };
    router.route("/api/v1/openapi.json", get(serve))
}

/// Returns the answer to an error: a problem below `/api/v1`, and the legacy hub's form elsewhere.
pub(super) fn or_problem(uri: &Uri, error: ApiError) -> Response {
    if uri.path().starts_with("/api/v1/") { Problem::from(error).into_response() } else { error.into_response() }
}

fn described() -> (Router<Arc<App>>, OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(agents::list))
        .routes(routes!(agents::get))
        .routes(routes!(restarts::command))
        .routes(routes!(restarts::list, restarts::command_selection))
        .routes(routes!(restarts::get))
        .routes(routes!(tasks::list, tasks::submit))
        .routes(routes!(tasks::get))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(events::follow))
        .routes(routes!(labels::set))
        .routes(routes!(drains::drain))
        .routes(routes!(drains::resume))
        .routes(routes!(healing::get))
        .routes(routes!(tokens::list, tokens::make))
        .routes(routes!(tokens::revoke))
        .routes(routes!(invitations::list, invitations::make))
        .routes(routes!(invitations::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(hub::me))
        .routes(routes!(hub::unread))
        .routes(routes!(backup::fetch))
        .split_for_parts();
    let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    description.components.get_or_insert_default().add_security_scheme("token", token);
    (router, description)
}
