//! The heads of requests and answers on their way through a standby. What a client sends arrives as it was sent, since the
//! leader judges it: only what is about one connection alone (RFC 9110, 7.6.1) is made anew for the next.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::common::http_client::head::has_token;
use crate::hub::cluster::forwarded::strip;

/// What is about one connection, beside `Connection` itself. `Upgrade` is looked at by the leader, and proves nothing
/// without `Connection`.
const OF_ONE_CONNECTION: [HeaderName; 6] = [
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes the head of a client's request one for the leader.
pub(super) fn to_leader(headers: &mut HeaderMap) {
    // With both, the length is not the body's (RFC 9112, 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let upgrades = has_token(headers, header::CONNECTION, "upgrade");
    remove(headers);
    if upgrades {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Makes the head of the leader's answer one for the client.
pub(super) fn to_client(status: StatusCode, headers: &mut HeaderMap) {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return strip(headers);
    }
    let closes = has_token(headers, header::CONNECTION, "close");
    remove(headers);
    headers.remove(header::UPGRADE);
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn remove(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(header::CONNECTION);
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        parsed.for_each(|(name, value)| _ = headers.append(name, value));
        headers
    }

    #[test]
    fn what_the_leader_judges_arrives_as_it_was_sent() {
        let judged = [
            ("host", "hub.test"),
            ("host", "evil.test"),
            ("origin", "http://evil.test"),
            ("cookie", "agentcom-session=x"),
            ("agentcom-page", "1"),
            ("x-forwarded-for", "10.0.0.9"),
            ("upgrade", "websocket"),
        ];
        let mut sent = headers(&judged);
        for (name, value) in [
            ("connection", "keep-alive, host, origin"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("agentcom-cluster-secret", "guessed"),
            ("agentcom-cluster-forwarded", "{}"),
        ] {
            sent.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        to_leader(&mut sent);
        assert_eq!(sent, headers(&judged));
    }

    #[test]
    fn an_upgrade_is_asked_for_and_granted() {
        let mut asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        to_leader(&mut asked);
        assert_eq!(asked, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        let mut granted =
            headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("agentcom-cluster-epoch", "7")]);
        to_client(StatusCode::SWITCHING_PROTOCOLS, &mut granted);
        assert_eq!(granted, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn a_body_has_one_length() {
        let mut sent = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        to_leader(&mut sent);
        assert_eq!(sent, headers(&[]));
        let mut sent = headers(&[("content-length", "5")]);
        to_leader(&mut sent);
        assert_eq!(sent, headers(&[("content-length", "5")]));
    }

    #[test]
    fn an_answer_says_nothing_of_the_cluster() {
        let mut answer = headers(&[
            ("agentcom-cluster-epoch", "7"),
            ("agentcom-cluster-authenticated", "1"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]);
        to_client(StatusCode::REQUEST_TIMEOUT, &mut answer);
        assert_eq!(answer, headers(&[("connection", "close"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]));
    }
}
