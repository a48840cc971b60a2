//! Quotes words for a POSIX shell, for the commands that messages tell operators to type.

/// Returns `text` as one word of a POSIX shell, quoted where it must be.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '+' | '=');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use crate::common::cli::quoted::quoted;

    #[test]
    fn a_shell_reads_one_word_back() {
        for text in ["plain/path-1.x", "two words", "it's", "$HOME `x` \"y\"", ""] {
            let line = format!("printf %s {}", quoted(text));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
        }
    }
}
