//! The parameters of `/api/v1`: what the description says of them, and how they are read. One that is not known is refused by
//! its name: a misspelt filter must not be taken for one that was left out.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::{Value, json};
use strum::VariantNames;
use utoipa::IntoParams;

use crate::hub::http::request::{QueryParameters, read_query};
use crate::hub::http::v1::problem::Problem;

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

/// Returns the parameters of the query, all of which must be known.
///
/// # Errors
/// 400 if the query cannot be parsed, 422 for a parameter that is not known.
pub(super) fn read_parameters(query: QueryParameters, known: &[&str]) -> Result<HashMap<String, String>, Problem> {
    let query = read_query(query)?;
    let detail = format!("there is no such parameter; known are {}", known.join(", "));
    let unknown = |name: &&String| !known.contains(&name.as_str());
    let errors: Vec<Value> = query
        .keys()
        .filter(unknown)
        .map(|name| json!({"field": name, "error": "unknown_parameter", "detail": detail}))
        .collect();
    if errors.is_empty() { Ok(query) } else { Err(Problem::invalid(&errors)) }
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
