//! Where the port for the other nodes is (`--cluster-listen`), and how they are told (`--cluster-url`).

use std::net::SocketAddr;

use hyper::Uri;

use crate::common::http_client::addresses::has_wrong_port;

/// The accepted form, for error messages.
const ALLOWED: &str =
    "`http://` or `https://`, a host that the other nodes reach, and its port, such as http://10.0.0.5:4001";

/// Returns the address that the other nodes are told: what was given, or where the port listens.
///
/// # Errors
/// Returns what is wrong, and what to give.
pub fn advertised(listens_on: SocketAddr, given: Option<&str>) -> Result<String, String> {
    let Some(given) = given else {
        if listens_on.ip().to_canonical().is_unspecified() {
            return Err(format!(
                "--cluster-listen {listens_on} listens on every address of this machine, and the other nodes must be told \
                 one: give --cluster-url; allowed: {ALLOWED}"
            ));
        }
        return Ok(format!("http://{listens_on}"));
    };
    check(given).map_err(|why| format!("--cluster-url: {why}; allowed: {ALLOWED}"))
}

fn check(given: &str) -> Result<String, &'static str> {
    let text = given.strip_suffix('/').unwrap_or(given);
    if text.contains('@') {
        return Err("there are credentials in it");
    }
    let uri: Uri = text.parse().map_err(|_| "it is no address")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("its scheme is another");
    }
    if uri.host().is_none_or(|host| host.is_empty() || host == "0.0.0.0" || host == "[::]") {
        return Err("its host is none that another node reaches");
    }
    if has_wrong_port(&uri) {
        return Err("its port is none from 1 to 65535");
    }
    if uri.path().len() > 1 || uri.query().is_some() || text.ends_with('/') {
        return Err("there is more after its host");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_else_is_said_it_is_where_the_port_listens() {
        assert_eq!(advertised("10.0.0.5:4001".parse().unwrap(), None).as_deref(), Ok("http://10.0.0.5:4001"));
        assert_eq!(advertised("[fd00::5]:4001".parse().unwrap(), None).as_deref(), Ok("http://[fd00::5]:4001"));
    }

    #[test]
    fn every_address_is_none() {
        for listen in ["0.0.0.0:4001", "[::]:4001", "[::ffff:0.0.0.0]:4001"] {
            let listens_on = listen.parse().unwrap();
            let why = advertised(listens_on, None).unwrap_err();
            assert!(why.contains("--cluster-url") && why.contains("http://10.0.0.5:4001"), "{why}");
            assert_eq!(
                advertised(listens_on, Some("https://b.internal:4001/")).as_deref(),
                Ok("https://b.internal:4001")
            );
        }
    }

    #[test]
    fn what_is_no_address_is_said_with_what_is_allowed() {
        for (given, why) in [
            ("", "no address"),
            ("10.0.0.5:4001", "its scheme"),
            ("b.internal", "its scheme"),
            ("ws://b:4001", "its scheme"),
            ("http://", "no address"),
            ("http://0.0.0.0:4001", "no"),
            ("http://[::]:4001", "its host is none"),
            ("http://b:0", "its port"),
            ("http://b:99999", "its port"),
            ("http://b:4001/hub", "more after its host"),
            ("http://b:4001//", "more after its host"),
            ("http://b:4001?a", "more after its host"),
            ("http://me:secret@b:4001", "credentials"),
        ] {
            let said = advertised("10.0.0.5:4001".parse().unwrap(), Some(given)).unwrap_err();
            assert!(said.contains(why) && said.contains("allowed: "), "{given}: {said}");
        }
    }
}
