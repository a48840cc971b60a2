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
mod restarts;
mod rollouts;
mod selected;
mod tasks;
mod tokens;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::hub::http::request::App;

/// What the description says beside the routes.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "agentcom-hub",
    description = "Agents, tasks, restarts and rollouts of one hub. Every request but this description needs a token.",
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
    let known = Arc::new(Known::of(&description));
    let router = router.route_layer(middleware::from_fn_with_state(known, check_query));
    router.route("/api/v1/openapi.json", get(serve))
}

/// The parameters that the query of each route may have, by method and path, as the description names them.
struct Known(HashMap<(String, String), Vec<String>>);

impl Known {
    fn of(description: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &description.paths.paths {
            for (method, operation) in operations(item) {
                let all = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
                    RefOr::T(parameter) => Some(parameter),
                    RefOr::Ref(_) => None,
                });
                let in_query = all.filter(|parameter| matches!(parameter.parameter_in, ParameterIn::Query));
                let names = in_query.map(|parameter| parameter.name.clone()).collect();
                known.insert((method.to_owned(), path.clone()), names);
            }
        }
        Self(known)
    }
}

/// Returns the operations of a path, by method.
fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("PATCH", &item.patch),
        ("PUT", &item.put),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

/// Refuses a parameter that the route does not have, and one that is given twice: a misspelt filter must not be taken for
/// one that was left out.
async fn check_query(State(known): State<Arc<Known>>, path: MatchedPath, request: Request, next: Next) -> Response {
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    let known = known.0.get(&(method.to_owned(), path.as_str().to_owned()));
    match parameters::check(request.uri(), known.map_or(&[], Vec::as_slice)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn described() -> (Router<Arc<App>>, OpenApi) {
    let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(agents::list))
        .routes(routes!(agents::get))
        .routes(routes!(restarts::command))
        .routes(routes!(restarts::list, restarts::command_selection))
        .routes(routes!(restarts::get))
        .routes(routes!(rollouts::list, rollouts::start))
        .routes(routes!(rollouts::get))
        .routes(routes!(rollouts::targets))
        .routes(routes!(rollouts::act))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::hub::http::RESTART_FIELDS;
    use crate::hub::http::tasks::TASK_FIELDS;
    use crate::protocol::schema::Field;

    /// A body is read by a list of fields, and described by a type of its own.
    #[test]
    fn the_description_of_each_body_names_the_fields_that_are_read() {
        let (_, description) = described();
        let description = serde_json::to_value(&description).unwrap();
        let bodies: [(&str, &[Field]); 10] = [
            ("NewTask", TASK_FIELDS),
            ("NewRestart", RESTART_FIELDS),
            ("NewRestarts", restarts::SELECTION_FIELDS),
            ("NewLabels", labels::FIELDS),
            ("NewDrain", drains::DRAIN_FIELDS),
            ("DrainEnd", drains::RESUME_FIELDS),
            ("NewRollout", rollouts::FIELDS),
            ("ActReason", rollouts::ACT_FIELDS),
            ("TokenRequest", tokens::FIELDS),
            ("NewInvitation", invitations::FIELDS),
        ];
        let mut named = BTreeSet::new();
        for (name, fields) in bodies {
            let schema = &description["components"]["schemas"][name];
            let described: BTreeSet<&str> =
                schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(described, fields.iter().map(Field::name).collect(), "{name}");
            assert_eq!(schema["additionalProperties"], false, "{name}");
            named.insert(format!("#/components/schemas/{name}"));
        }
        for (path, methods) in description["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values().filter(|it| it.get("requestBody").is_some()) {
                let schema = operation["requestBody"]["content"]["application/json"]["schema"].to_string();
                assert!(named.iter().any(|name| schema.contains(&format!("{name}\""))), "{path}: {schema}");
            }
        }
    }
}
