//! The parameters of `/api/v1`: what the description says of them, and how they are read.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use strum::VariantNames;
use utoipa::IntoParams;

use crate::common::text::first_chars;
use crate::hub::api_error::ApiError;
use crate::hub::problem::Problem;

/// The largest number in a query: the largest whole number that every JSON reader keeps.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The header of an act that is done once.
#[derive(IntoParams)]
#[allow(dead_code, reason = "it describes a header, which `once` reads")]
#[into_params(parameter_in = Header)]
pub(super) struct OnceHeader {
    /// The same for each repeat of one request: it is done once, and each repeat is answered as the first was.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    key: Option<String>,
}

/// The size of a page.
#[derive(IntoParams)]
#[allow(dead_code, reason = "it describes a parameter, which `page_limit` reads")]
#[into_params(parameter_in = Query)]
pub(super) struct PageSize {
    /// The number of items on the page; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Checks that the query has only known parameters, each once.
///
/// # Errors
/// 400 if it cannot be parsed, 422 for a parameter that is not known, or is given twice.
pub(super) fn check(uri: &Uri, known: &[String]) -> Result<(), Problem> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let refused = |rejection: QueryRejection| {
        Problem::from(ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", &rejection.body_text()))
    };
    let Query(given) = query.map_err(refused)?;
    let mut errors: Vec<Value> = Vec::new();
    for (at, (name, _)) in given.iter().enumerate() {
        let error =
            |code: &str, detail: String| json!({"field": first_chars(name, 50), "error": code, "detail": detail});
        if !known.contains(name) {
            let detail = match known.is_empty() {
                true => "there is no such parameter: this request takes none".to_owned(),
                false => format!("there is no such parameter; known are {}", known.join(", ")),
            };
            errors.push(error("unknown_parameter", detail));
        } else if given[..at].iter().any(|(before, _)| before == name) {
            errors.push(error("twice", "it is there twice: name it once".to_owned()));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&errors)) }
}

/// Returns the parameter as one of the names of an enum, if the query has it.
///
/// # Errors
/// 422 for another name.
pub(super) fn named<T: FromStr + VariantNames>(
    query: &HashMap<String, String>,
    field: &str,
) -> Result<Option<T>, Problem> {
    query.get(field).map(|text| one_of(field, text)).transpose()
}

/// Returns the text of a field as one of the names of an enum.
///
/// # Errors
/// 422 for another name.
pub(super) fn one_of<T: FromStr + VariantNames>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| invalid(field, &format!("one of {}", T::VARIANTS.join(", ")), text))
}

/// Returns the parameter as a number, such as a time in ms since the epoch, if the query has it.
///
/// # Errors
/// 422 for anything that is no number from 0 to 2^53 - 1.
pub(super) fn number(query: &HashMap<String, String>, field: &str) -> Result<Option<u64>, Problem> {
    let parse = |text: &String| {
        let read = text.parse().ok().filter(|number| *number <= MAX_NUMBER && !text.starts_with('+'));
        read.ok_or_else(|| invalid(field, &format!("a number from 0 to {MAX_NUMBER}"), text))
    };
    query.get(field).map(parse).transpose()
}

/// Returns the parameter as a flag, if the query has it.
///
/// # Errors
/// 422 for anything but `true` and `false`.
pub(super) fn flag(query: &HashMap<String, String>, field: &str) -> Result<Option<bool>, Problem> {
    let parse = |text: &String| text.parse().map_err(|_| invalid(field, "true or false", text));
    query.get(field).map(parse).transpose()
}

/// Returns the 422 problem for a text that is no cursor of the list.
pub(super) fn bad_cursor() -> Problem {
    Problem::invalid_field("cursor", "invalid", "expected `next_cursor` of an answer of this list")
}

fn invalid(field: &str, expected: &str, found: &str) -> Problem {
    Problem::invalid_field(field, "invalid", &format!("expected {expected}, got {found:?}"))
}
