//! `/dashboard`: the page that people look at. It is a shell with a script, which asks `/api/v1` as any client does; only
//! its credentials are others, a [`session`]. Everything it is made of is in the program.
//!
//! | route | answer |
//! |---|---|
//! | `GET /dashboard`, `/dashboard/...` | the shell, whose script shows the view; without a session the form to log in |
//! | `POST /dashboard/login` | 303 with the cookie of a session; 401 with the form again |
//! | `POST /dashboard/logout` | 303, and the cookie is gone |
//! | `GET /dashboard/static/{version}/{file}` | style and script, cached for ever: another hub has another version |

mod assets;
mod diagram;
mod session;

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;

use crate::hub::api_error::ApiError;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::page::diagram::Diagram;
use crate::hub::http::reply::{Caller, Proof, caller_of, unauthorized};
use crate::hub::http::request::{App, Shared};
use crate::hub::state::roles::Permission;

pub(super) use crate::hub::http::page::session::{Sessions, recognise};

/// The first view.
const HOME: &str = "/dashboard";

/// What a browser may do with the page: nothing but what the hub itself serves. Text becomes no script in any way.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// What the page asks of a role before it shows a button or a view, by the names that the script knows.
const ASKED: [(&str, Permission); 6] = [
    ("restart", Permission::RestartAnyAgent),
    ("restart-itself", Permission::RestartItself),
    ("drain", Permission::DrainAgents),
    ("tasks", Permission::ActOnAnyTask),
    ("restarts", Permission::ReadAnyRestarts),
    ("audit", Permission::ReadAudit),
];

/// Returns the routes of the page.
pub(super) fn router(sessions: Arc<Sessions>) -> Router<Arc<App>> {
    Router::new()
        .route("/dashboard", get(show))
        .route("/dashboard/", get(show))
        .route("/dashboard/{*view}", get(show))
        .route("/dashboard/login", get(show).post(log_in))
        .route("/dashboard/logout", post(log_out))
        .route("/dashboard/static/{version}/{file}", get(asset))
        .layer(middleware::from_fn(guarded))
        .layer(Extension(sessions))
}

/// The shell of the page, with what its script has to know at once.
#[derive(Template)]
#[template(path = "shell.html", config = "src/hub/http/page/askama.toml")]
struct Shell<'a> {
    base: &'a str,
    modules: &'a [&'a str],
    name: &'a str,
    role: &'a str,
    /// What the role may do, as words.
    may: String,
    diagram: Diagram,
}

impl Shell<'_> {
    /// Returns whether a view that needs this is shown.
    fn shows(&self, what: &str) -> bool {
        self.may.split(' ').any(|word| word == what)
    }
}

/// The form to log in.
#[derive(Template)]
#[template(path = "login.html", config = "src/hub/http/page/askama.toml")]
struct LoginPage<'a> {
    base: &'a str,
    /// Where to go then.
    next: &'a str,
    /// Why the last try failed.
    refused: Option<&'a str>,
}

/// What the form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
    #[serde(default)]
    next: String,
}

/// Shows the page, or the form to log in. What comes after `/dashboard` is the script's to read.
async fn show(
    State(app): Shared,
    Extension(sessions): Extension<Arc<Sessions>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let snapshot = app.snapshot();
    let session = sessions.read(&headers, snapshot.now_ms()).map_or(Credentials::None, Credentials::Session);
    match caller_of(&snapshot, &session) {
        Ok(caller) => page(&shell(&caller), StatusCode::OK),
        Err(_) => {
            let asked = uri.path_and_query().map_or(HOME, |asked| asked.as_str());
            login_page(StatusCode::OK, asked, None)
        }
    }
}

fn shell(caller: &Caller) -> Shell<'_> {
    let may: Vec<&str> = ASKED.iter().filter(|(_, needs)| caller.may(*needs)).map(|(name, _)| *name).collect();
    Shell {
        base: assets::base(),
        modules: assets::MODULES,
        name: &caller.name,
        role: <&str>::from(caller.role),
        may: may.join(" "),
        diagram: Diagram::of_the_machine(),
    }
}

/// Opens a session for the owner of a token.
async fn log_in(
    State(app): Shared,
    Extension(sessions): Extension<Arc<Sessions>>,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Response {
    let Form(Login { token, next }) = match form {
        Ok(form) => form,
        Err(rejection) => return login_page(StatusCode::UNPROCESSABLE_ENTITY, HOME, Some(&rejection.body_text())),
    };
    let next = safe_next(&next);
    let presented = Credentials::Header(format!("Bearer {}", token.trim()));
    let snapshot = app.snapshot();
    let opened = caller_of(&snapshot, &presented).and_then(|caller| match caller.proof {
        Proof::Token(token) => sessions.open(&token, snapshot.now_ms(), &headers),
        Proof::Local(_) => Err(unauthorized()),
    });
    match opened {
        Ok(cookie) => see_other(next, cookie),
        Err(refusal) => {
            let (status, body) = refusal.into_parts();
            let why = match body["error"].as_str() {
                Some("unauthorized") | None => "this hub knows no such token: agentcom-hub token NAME makes one",
                Some(_) => body["hint"].as_str().unwrap_or_default(),
            };
            login_page(status, next, Some(why))
        }
    }
}

/// Ends the session in this browser.
async fn log_out(headers: HeaderMap) -> Response {
    see_other(HOME, session::ended(&headers))
}

async fn asset(Path((version, file)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = assets::find(&version, &file) else {
        let hint = "there is no such file in this version of the hub: load the page again";
        return ApiError::new(StatusCode::NOT_FOUND, "not_found", hint).into_response();
    };
    let head = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let takes_gzip =
        accepted.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("gzip"));
    match takes_gzip {
        true => (head, [(header::CONTENT_ENCODING, "gzip")], asset.gzip.as_slice()).into_response(),
        false => (head, asset.text).into_response(),
    }
}

/// Returns the path of the page that a form names, or the first view where it names another place.
fn safe_next(next: &str) -> &str {
    let rest = next.strip_prefix(HOME);
    let is_own = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    if is_own && next.bytes().all(|byte| byte.is_ascii_graphic()) && !next.starts_with("/dashboard/login") {
        next
    } else {
        HOME
    }
}

fn see_other(to: &str, cookie: HeaderValue) -> Response {
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static(HOME));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::SET_COOKIE, cookie)]).into_response()
}

fn login_page(status: StatusCode, next: &str, refused: Option<&str>) -> Response {
    page(&LoginPage { base: assets::base(), next, refused }, status)
}

/// Answers a page, which nothing between keeps: it names who looks at it.
fn page(template: &impl Template, status: StatusCode) -> Response {
    match template.render() {
        Ok(text) => (status, [(header::CACHE_CONTROL, "no-store")], Html(text)).into_response(),
        Err(error) => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "page_failed", &error.to_string()).into_response()
        }
    }
}

/// Adds what keeps a browser from doing anything with the page that the hub did not mean.
async fn guarded(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: with it a browser sends no `Origin` of its own, by which the hub knows its page.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::state::roles::Role;

    #[test]
    fn only_a_view_of_the_page_follows_a_login() {
        for own in ["/dashboard", "/dashboard/agents/a%20b", "/dashboard?selector=status%3Doffline"] {
            assert_eq!(safe_next(own), own);
        }
        for other in
            ["", "/", "//evil.test", "https://evil.test", "/dashboards", "/dashboard/a\r\nb", "/dashboard/login?a"]
        {
            assert_eq!(safe_next(other), HOME, "{other}");
        }
    }

    #[test]
    fn a_shell_names_what_its_reader_may_and_escapes_the_name() {
        let caller = |role| Caller {
            name: "<img src=x>\"".to_owned(),
            owned_since: None,
            role,
            registered_openly: false,
            proof: Proof::Token([0; 32]),
            use_is_news: false,
        };
        let viewer = caller(Role::Viewer);
        let text = shell(&viewer).render().unwrap();
        assert!(text.contains("data-may=\"restarts\"") && !text.contains("<img"), "{text}");
        assert!(!text.contains("/dashboard/audit"), "{text}");
        let admin = caller(Role::Admin);
        assert!(
            shell(&admin).render().unwrap().contains("data-may=\"restart restart-itself drain tasks restarts audit\"")
        );
    }
}
