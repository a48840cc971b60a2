//! Selectors as people type them: those of the API, where a name alone is an agent's.

use crate::hub::cli::client::{Client, Failure};
use crate::hub::cli::exit_code::ExitCode;

/// Returns the selector of the API for what was typed: each part between commas that has no `=` and is not `all` is an
/// agent's name. A backslash takes the next character as it is, as in the API.
pub(in crate::hub::cli) fn selector(typed: &str) -> String {
    let mut parts = Vec::new();
    let (mut part, mut is_name) = (String::new(), true);
    let mut chars = typed.chars();
    while let Some(next) = chars.next() {
        match next {
            ',' => parts.push(criterion(&std::mem::take(&mut part), std::mem::replace(&mut is_name, true))),
            '\\' => {
                part.push(next);
                part.extend(chars.next());
            }
            other => {
                is_name &= other != '=';
                part.push(other);
            }
        }
    }
    parts.push(criterion(&part, is_name));
    parts.join(",")
}

impl Client {
    /// Returns the selector of the API for what was typed, of agents that are acted on: it is refused where `all` could be
    /// meant as the name of one.
    ///
    /// # Errors
    /// An agent is named `all`, or the hub cannot be asked, or refuses.
    pub(in crate::hub::cli) async fn selector_to_act(&mut self, typed: &str) -> Result<String, Failure> {
        let selector = selector(typed);
        if selector.trim() != "all" {
            return Ok(selector);
        }
        match self.get("/api/v1/agents/all").await {
            Ok(_) => {
                let message = "there is an agent with the name `all`: write id=all for it; for all agents, name what they \
                               have, such as status=healthy,status=degraded";
                Err(Failure::new(ExitCode::Usage, message))
            }
            Err(failure) if failure.code == ExitCode::No => Ok(selector),
            Err(failure) => Err(failure),
        }
    }
}

fn criterion(part: &str, is_name: bool) -> String {
    if is_name && !matches!(part.trim(), "" | "all") { format!("id={part}") } else { part.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_an_agents() {
        for (typed, expected) in [
            ("all", "all"),
            ("a", "id=a"),
            ("a,b c", "id=a,id=b c"),
            ("label.pool=gpu,status=offline", "label.pool=gpu,status=offline"),
            ("a,status=offline", "id=a,status=offline"),
            ("a\\,b\\=c", "id=a\\,b\\=c"),
            ("id=all", "id=all"),
            ("", ""),
            ("ä\\", "id=ä\\"),
        ] {
            assert_eq!(selector(typed), expected, "{typed}");
        }
    }
}
