//! Tells which environment variables look like secrets, by name or value. The rule is that of `ecosystem.config.js`,
//! which keeps them from pm2.

/// The endings of a word that mark a name as a secret's.
const ENDINGS: [&str; 11] = [
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SSHPASS",
    "CREDENTIAL",
    "CREDENTIALS",
    "KEY",
    "KEYS",
];
/// The whole words that mark a name as a secret's.
const WORDS: [&str; 7] = ["ADMIN", "PASS", "AUTH", "AUTHORIZATION", "BEARER", "JWT", "COOKIE"];
/// The last words of a name whose value is only the place of a secret.
const PLACES: [&str; 4] = ["FILE", "PATH", "DIR", "SOCK"];
/// The number of hex digits in a hub's token.
const TOKEN_DIGITS: usize = 64;

/// Returns whether a variable looks like a secret. An empty one does not.
pub(super) fn looks_secret(name: &str, value: &str) -> bool {
    !value.is_empty() && (is_secret_name(name) || is_hub_token(value) || has_password_in_url(value))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_secret = |(at, word): (usize, &&str)| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        // `PWD` alone is the working folder.
        let password = word == "PWD" && at > 0;
        password || WORDS.contains(&word) || ENDINGS.iter().any(|ending| word.ends_with(ending))
    };
    let names_a_place = words.last().is_some_and(|last| PLACES.contains(last));
    !names_a_place && words.iter().enumerate().any(is_secret)
}

/// Returns whether the value holds a hub's token, alone or after other words as in an `Authorization` header.
pub(super) fn is_hub_token(value: &str) -> bool {
    let is_token = |word: &str| word.len() == TOKEN_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    value.split_whitespace().any(is_token)
}

/// Returns whether the value holds a URL with a password: `scheme://user:password@host`.
fn has_password_in_url(value: &str) -> bool {
    value.match_indices("://").any(|(at, mark)| {
        let rest = &value[at + mark.len()..];
        let authority = rest.split(|c: char| c == '/' || c.is_whitespace()).next().unwrap_or_default();
        let password =
            authority.split_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        password.is_some_and(|password| !password.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn an_empty_variable_is_no_secret() {
        assert!(looks_secret("AGENTCOM_TOKEN", "x") && !looks_secret("AGENTCOM_TOKEN", ""));
    }

    #[test]
    fn a_token_is_known_in_a_variable_of_any_name() {
        assert!(looks_secret("X", TOKEN) && looks_secret("X", &format!("Authorization: Bearer {TOKEN}")));
        assert!(!looks_secret("X", &TOKEN[1..]) && !looks_secret("IMAGE", &format!("hub@sha256:{TOKEN}")));
    }
}
