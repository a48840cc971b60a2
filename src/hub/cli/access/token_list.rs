//! Tokens and invitations as lines for people.

use serde_json::Value;

use crate::common::text::on_one_line;
use crate::common::wall_clock::now_ms;
use crate::hub::cli::client::Items;
use crate::hub::cli::show::fields::{age, text};
use crate::hub::state::lifetime::show_duration;

/// Returns a line for each token.
pub(super) fn lines(tokens: &Items) -> String {
    tokens.values().map(|token| on_one_line(&line(&token)) + "\n").collect()
}

fn line(token: &Value) -> String {
    let [id, prefix, role, name] = ["id", "prefix", "role", "agent_id"].map(|field| text(&token[field]));
    let old = token["created_at"].as_u64().map_or_else(|| text(&Value::Null), age);
    let used = match token["last_used_at"].as_u64() {
        Some(at) => format!("used {} ago", age(at)),
        None => "no use noted".to_owned(),
    };
    let expiry = expiry(&token["expires_at"]);
    let openly = if token["registered_openly"] == true { "openly " } else { "" };
    let maker = token["created_by"].as_str().map(|maker| format!("{openly}by {maker}")).unwrap_or_default();
    format!("{id}  {prefix:<6}  {role:<8}  {old:>6} old  {used:<14}  {expiry:<16}  {maker:<12}  {name}")
}

/// Returns when something ends to be worth something.
pub(super) fn expiry(expires_at: &Value) -> String {
    match expires_at.as_u64().map(|at| at.saturating_sub(now_ms())) {
        Some(0) => "has expired".to_owned(),
        Some(left) => format!("expires in {}", show_duration(left)),
        None => "does not expire".to_owned(),
    }
}
