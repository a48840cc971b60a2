//! Finds placeholders that the shell does not expand because they are in single quotes. It follows the quoting rules of
//! POSIX `sh` for a line; it does not parse here-documents or substitutions.

const VARIABLES: [&str; 3] = ["TASK_ID", "TASK_JSON", "TASK_DESCRIPTION"];

/// Returns the task's variables that occur inside single quotes as `${NAME}`, each once.
pub(super) fn single_quoted(command: &str) -> Vec<&'static str> {
    let quoted: Vec<&str> = single_quoted_parts(command);
    VARIABLES.into_iter().filter(|name| quoted.iter().any(|part| part.contains(&format!("${{{name}}}")))).collect()
}

fn single_quoted_parts(command: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut in_double = false;
    let mut rest = command.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' => {
                rest.next();
            }
            '"' => in_double = !in_double,
            '\'' if !in_double => {
                let start = at + 1;
                let end = rest.find(|(_, c)| *c == '\'').map_or(command.len(), |(end, _)| end);
                parts.push(&command[start..end]);
            }
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_single_quotes_protect() {
        assert_eq!(single_quoted("agent --task '${TASK_JSON}' '${TASK_ID}'"), ["TASK_ID", "TASK_JSON"]);
    }

    #[test]
    fn leaves_double_quotes_alone() {
        let line = "openclaw agent --message \"Task: ${TASK_JSON}\" --session-id ${TASK_ID}";
        assert!(single_quoted(line).is_empty());
    }

    #[test]
    fn knows_that_single_quotes_inside_double_quotes_protect_nothing() {
        assert!(single_quoted("echo \"it's '${TASK_ID}'\"").is_empty());
    }

    #[test]
    fn knows_that_a_backslash_outside_takes_the_quote_away() {
        assert!(single_quoted("echo \\'${TASK_ID}\\'").is_empty());
    }

    #[test]
    fn copes_with_an_open_quote() {
        assert_eq!(single_quoted("echo 'é ${TASK_DESCRIPTION}"), ["TASK_DESCRIPTION"]);
    }
}
