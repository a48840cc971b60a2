//! `GET /api/v1/backup`: a consistent copy of the store, made beside the hub's work and streamed.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use tokio::io::AsyncReadExt as _;

use crate::common::fs::atomic_file::utc_stamp;
use crate::hub::backups::{Backup, NoBackup};
use crate::hub::connections::listener::Origin;
use crate::hub::http::credentials::Credentials;
use crate::hub::http::reply::{Proof, require};
use crate::hub::http::request::{App, Shared};
use crate::hub::http::wrong_method_error;
use crate::hub::problem::Problem;
use crate::hub::state::roles::Permission;

/// The number of bytes that are sent at a time.
const PART_BYTES: usize = 256 << 10;
/// After how many seconds a client may try again while another backup is made.
const RETRY_AFTER_S: u8 = 10;
/// The digest of the content (RFC 9530).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Returns a copy of everything that the hub stores, as of one commit. `agentcom-hub restore` takes it.
#[utoipa::path(
    get, path = "/api/v1/backup", tag = "hub", operation_id = "fetch_backup", security(("token" = [])),
    responses(
        (
            // Bytes are described by no schema, which is what this type has.
            status = 200, description = "the copy", body = serde_json::Value, content_type = "application/octet-stream",
            headers(
                ("Content-Length" = u64, description = "its size, in bytes"),
                ("Content-Disposition" = String, description = "a name for its file"),
                ("Repr-Digest" = String, description = "its SHA-256 (RFC 9530)"),
            ),
        ),
        (status = "4XX", description = "no valid token, or not an admin's", body = Problem, content_type = "application/problem+json"),
        (
            status = 503, description = "another backup is being made or fetched, or the hub stops",
            body = Problem, content_type = "application/problem+json",
            headers(("Retry-After" = u32, description = "try again after so many seconds")),
        ),
        (status = 507, description = "the hub's disk has no room for a copy", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn fetch(
    State(app): Shared,
    who: Credentials,
    origin: Option<Extension<Origin>>,
    method: Method,
    uri: Uri,
) -> Result<Response, Problem> {
    let caller = require(&app.snapshot(), &who, Permission::BackUpStore, "back up the store")?;
    if method == Method::HEAD {
        // Its answer would take as much work, and nobody would get the copy.
        return Err(wrong_method_error(&method, &uri).into());
    }
    if let Some(Extension(origin)) = origin {
        origin.take_time();
    }
    let backup = app.backups.make().await.inspect_err(|error| tracing::warn!(%error, "no backup is made"))?;
    let (contents, checksum, author) = (backup.contents.clone(), backup.checksum, caller.author());
    // Nobody gets a copy that the audit does not know of.
    app.act(&caller, move |state, now_ms| state.acts(&author, now_ms).record_backup(&contents, &checksum)).await?;
    tracing::info!(bytes = checksum.bytes, by = caller.name, "a backup is made");
    Ok(respond(app, backup, caller.proof))
}

fn respond(app: Arc<App>, backup: Backup, proof: Proof) -> Response {
    let name = format!("attachment; filename=\"agentcom-hub-{}.redb\"", utc_stamp(SystemTime::now()));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, backup.checksum.bytes.to_string()),
        (header::CONTENT_DISPOSITION, name),
        (REPR_DIGEST, backup.checksum.repr_digest()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, Body::from_stream(parts(app, backup, proof))).into_response()
}

/// Returns the copy in parts. It breaks off when the caller's token is no longer valid.
fn parts(app: Arc<App>, backup: Backup, proof: Proof) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((app, backup), move |(app, mut backup)| async move {
        if !app.is_valid(proof) {
            return Err(io::Error::other("the token that asked for the backup is no longer valid"));
        }
        let mut part = vec![0; PART_BYTES];
        let length = backup.file.read(&mut part).await?;
        part.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(part), (app, backup))))
    })
}

impl From<NoBackup> for Problem {
    fn from(none: NoBackup) -> Self {
        let (status, code) = match &none {
            NoBackup::InProgress => (StatusCode::SERVICE_UNAVAILABLE, "backup_in_progress"),
            NoBackup::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            NoBackup::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            NoBackup::Failed(_) | NoBackup::Died(_) => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
        };
        let problem = Self::new(status, code, none.to_string());
        match none {
            NoBackup::InProgress | NoBackup::Stopping => problem.retry_after(RETRY_AFTER_S),
            NoBackup::NoRoom(_) | NoBackup::Failed(_) | NoBackup::Died(_) => problem,
        }
    }
}
