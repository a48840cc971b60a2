//! Reads the address at which people open the hub in a browser: the value of `--public-url`.

use crate::common::http_host::WebOrigin;

/// The accepted form, for error messages.
const ALLOWED: &str = "`http://` or `https://`, a host, and its port where it is not the usual one, such as \
                       https://hub.example.org";

/// Parses the address.
///
/// # Errors
/// Returns a text with what was found and what is allowed. A password in the address is not quoted.
pub(in crate::hub) fn parse(text: &str) -> Result<WebOrigin, String> {
    if text.contains('@') {
        return Err(format!("there are credentials in it; allowed: {ALLOWED}"));
    }
    let bare = text.strip_suffix('/').unwrap_or(text);
    let wrong = |why: &str| Err(format!("{why}; allowed: {ALLOWED}"));
    let Some((scheme, rest)) = bare.split_once("://") else { return wrong("it has no scheme") };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return wrong("its scheme is another");
    }
    if rest.contains(['/', '?', '#']) {
        return wrong("there is more after its host: a hub below a path has the address of its host here");
    }
    if !rest.is_ascii() {
        return wrong("its host is not ASCII: write it as browsers send it, `xn--...`");
    }
    let origin = WebOrigin::parse(bare).filter(|origin| origin.port > 0);
    origin.ok_or_else(|| format!("its host or its port is none; allowed: {ALLOWED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin() {
        for text in [
            "https://hub.example.org",
            "https://hub.example.org/",
            "HTTPS://HUB.example.org:443",
            "https://hub.example.org.",
        ] {
            assert_eq!(parse(text), Ok(WebOrigin::parse("https://hub.example.org").unwrap()), "{text}");
        }
        assert_eq!(parse("http://[::1]:4000").unwrap().port, 4000);
    }

    #[test]
    fn what_is_none_is_refused_with_what_is_wrong() {
        for (text, why) in [
            ("", "no scheme"),
            ("hub.example.org", "no scheme"),
            ("hub.example.org:443", "no scheme"),
            ("//hub.example.org", "no scheme"),
            ("wss://hub.example.org", "scheme is another"),
            ("https://hub.example.org/hub", "below a path"),
            ("https://hub.example.org//", "below a path"),
            ("https://hub.example.org?a", "below a path"),
            ("https://hub.example.org#a", "below a path"),
            ("https://", "no scheme"),
            ("https://hub.example.org:0", "port is none"),
            ("https://hub.example.org:99999", "port is none"),
            ("https://hub.example.org:x", "port is none"),
            ("https://*.example.org", "host or its port is none"),
            ("https://127.1", "host or its port is none"),
            ("https://hüb.example.org", "xn--"),
            (" https://hub.example.org", "scheme is another"),
            ("https://ops:secret@hub.example.org", "credentials"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(why) && said.contains("allowed: ") && !said.contains("secret"), "{text}: {said}");
        }
    }
}
