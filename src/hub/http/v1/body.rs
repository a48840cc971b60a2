//! Reads the bodies of `/api/v1`. What is not known is refused by its name: a misspelt field must not be taken
//! for one that was left out.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::hub::http::reply::{parse_body, take_body};
use crate::hub::problem::Problem;
use crate::protocol::JsonFields;
use crate::protocol::schema::{Field, check};

/// The body of a request, read and checked.
pub(super) struct Checked {
    /// Its fields.
    pub(super) fields: JsonFields,
    /// Its size, in bytes.
    pub(super) bytes: u64,
}

/// Reads the request's body as an object that has only the given fields. An absent body counts as an empty object,
/// and so does null.
///
/// # Errors
/// Those of `read_body`, and 422 for a field that is not known.
pub(super) fn read_strict(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    fields: &[Field],
) -> Result<Checked, Problem> {
    let body = take_body(body)?;
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    if body.is_empty() || body.trim_ascii() == b"null" {
        let errors = check(&JsonFields::default(), fields);
        return if errors.is_empty() {
            Ok(Checked { fields: JsonFields::default(), bytes })
        } else {
            Err(Problem::invalid(&errors))
        };
    }
    let read = parse_body(headers, &body, |_| true)?;
    let is_known = |name: &str| fields.iter().any(|field| field.is(name));
    let mut errors: Vec<Value> =
        read.iter().filter(|(name, _)| !is_known(name)).map(|(name, _)| unknown(name, fields)).collect();
    errors.extend(check(&read, fields));
    if errors.is_empty() { Ok(Checked { fields: read, bytes }) } else { Err(Problem::invalid(&errors)) }
}

/// Returns the bytes of a body, none if it cannot be read.
pub(super) fn bytes_of(body: &Result<Bytes, BytesRejection>) -> &[u8] {
    body.as_ref().map_or(&[], |body| body)
}

fn unknown(name: &str, fields: &[Field]) -> Value {
    let known: Vec<&str> = fields.iter().map(Field::name).collect();
    let detail = match known.is_empty() {
        true => "there is no such field: this request takes none".to_owned(),
        false => format!("there is no such field; known are {}", known.join(", ")),
    };
    json!({"field": crate::common::text::first_chars(name, 50), "error": "unknown_field", "detail": detail})
}
