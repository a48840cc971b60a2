//! Looks a host up and connects to the first of its addresses that answers (RFC 8305, "Happy Eyeballs"): the families take
//! turns, an address that is silent delays the next one by a quarter of a second, and the slower ones are dropped.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Uri;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long an address that is silent is waited for before the next one is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The shortest such wait, for a host with very many addresses (RFC 8305, 5).
const MIN_STAGGER: Duration = Duration::from_millis(10);

/// How many addresses a failure names.
const MAX_NAMED: usize = 8;

/// An attempt to connect to one of a host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The address.
    pub address: SocketAddr,
    /// Its place among the host's addresses, from 1.
    pub number: usize,
    /// The number of the host's addresses.
    pub of: usize,
}

/// Returns the URL's host; an IPv6 address without its brackets.
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// Returns whether the URL's scheme means TLS.
pub fn is_tls(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("https" | "wss"))
}

/// Returns the URL's port, or that of its scheme.
pub fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 })
}

/// Returns whether the URL names a port that there cannot be, in place of which that of its scheme would be taken.
pub fn has_wrong_port(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let after_host = place.rsplit_once(']').map_or(place, |(_, after)| after);
    after_host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty()) && uri.port_u16().is_none_or(|port| port == 0)
}

/// Looks up the addresses of a URL's host, each with the URL's port; at least one.
///
/// # Errors
/// The system's error with what to do, or what to do about a host without an address.
pub async fn resolve(uri: &Uri) -> io::Result<Vec<SocketAddr>> {
    let (host, hint) = (host(uri), "is it spelled right, and does this machine's DNS (or /etc/hosts) know it?");
    match tokio::net::lookup_host((host, port(uri))).await.map(Iterator::collect::<Vec<_>>) {
        Ok(found) if found.is_empty() => Err(io::Error::other(format!("{host} has no address; {hint}"))),
        Ok(found) => Ok(found),
        Err(error) => Err(io::Error::other(format!("{host} cannot be looked up: {error}; {hint}"))),
    }
}

/// Looks the host up and connects to the first of its addresses that answers before `deadline`; `last`, if it is one of
/// them, is tried last. `begun` is called for each attempt.
///
/// # Errors
/// An error that names each address with what came of it; else that of [`resolve`].
pub async fn connect(
    uri: &Uri,
    last: Option<SocketAddr>,
    deadline: Instant,
    begun: impl Fn(Attempt),
) -> io::Result<TcpStream> {
    let late = |_| io::Error::other(format!("{} was not looked up in time; check this machine's DNS", host(uri)));
    let found = timeout_at(deadline, resolve(uri)).await.map_err(late)??;
    let literal = host(uri).parse::<std::net::IpAddr>().is_ok();
    race(&in_turns(found, last), deadline, begun).await.map_err(|failures| failures.into_error(literal))
}

/// Orders addresses so that the families take turns, beginning with that of the first (RFC 8305, 4), and `last` is last.
fn in_turns(addresses: Vec<SocketAddr>, last: Option<SocketAddr>) -> Vec<SocketAddr> {
    let (to_last, addresses): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|one| Some(*one) == last);
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|one| one.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => {
                ordered.extend(to_last);
                return ordered;
            }
            (one, other) => ordered.extend(one.into_iter().chain(other)),
        }
    }
}

/// What came of the addresses when none answered.
#[derive(Debug)]
struct Failures {
    failed: Vec<(SocketAddr, io::Error)>,
    /// Those that had not answered when the time was over.
    silent: Vec<SocketAddr>,
}

impl Failures {
    /// Returns one error for all; the address is left out where the URL itself names it (`literal`).
    fn into_error(self, literal: bool) -> io::Error {
        let Self { mut failed, silent } = self;
        failed.extend(
            silent.into_iter().map(|address| (address, io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))),
        );
        if literal && failed.len() == 1 {
            return failed.swap_remove(0).1;
        }
        // The kind decides about the advice: one for all, or none.
        let kind = failed.first().map_or(io::ErrorKind::Other, |(_, error)| error.kind());
        let kind = if failed.iter().all(|(_, error)| error.kind() == kind) { kind } else { io::ErrorKind::Other };
        let more = failed.len().saturating_sub(MAX_NAMED);
        let named: Vec<_> =
            failed.iter().take(MAX_NAMED).map(|(address, error)| format!("{address}: {error}")).collect();
        let more = if more == 0 { String::new() } else { format!(", and {more} more addresses") };
        io::Error::new(kind, named.join(", ") + &more)
    }
}

/// Connects to the first of `addresses` that answers. Each is tried before `deadline`: many of them wait less for one
/// another.
async fn race(addresses: &[SocketAddr], deadline: Instant, begun: impl Fn(Attempt)) -> Result<TcpStream, Failures> {
    let of = addresses.len();
    let left = deadline.saturating_duration_since(Instant::now());
    // The last one gets at least half of the time.
    let stagger = (left / 2 / u32::try_from(of).unwrap_or(u32::MAX)).clamp(MIN_STAGGER, STAGGER);
    let mut silent = Vec::new();
    let mut failed = Vec::new();
    let mut racing = JoinSet::new();
    let mut upcoming = addresses.iter().copied().zip(1..).peekable();
    let mut begin_at = Instant::now();
    while upcoming.peek().is_some() || !racing.is_empty() {
        tokio::select! {
            biased;
            Some(ended) = racing.join_next() => match ended {
                Ok((_, Ok(stream))) => return Ok(stream),
                Ok((address, Err(error))) => {
                    silent.retain(|one| *one != address);
                    failed.push((address, error));
                    begin_at = Instant::now();
                }
                // Only a runtime that shuts down ends an attempt otherwise.
                Err(_) => break,
            },
            () = sleep_until(deadline) => break,
            () = sleep_until(begin_at), if upcoming.peek().is_some() => {
                if let Some((address, number)) = upcoming.next() {
                    begun(Attempt { address, number, of });
                    silent.push(address);
                    racing.spawn(async move { (address, open(address).await) });
                    begin_at = Instant::now() + stagger;
                }
            }
        }
    }
    // Dropping the set ends what still runs in it.
    silent.extend(upcoming.map(|(address, _)| address));
    Err(Failures { failed, silent })
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};

    /// A listener whose backlog is full, so that it swallows further SYNs as a dead node does.
    struct Swallower {
        address: SocketAddr,
        _held: Vec<std::os::fd::OwnedFd>,
    }

    fn swallower() -> Swallower {
        let socket =
            || rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let listener = socket();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
        let mut held = vec![listener];
        for _ in 0..3 {
            let caller = socket();
            // In progress, or refused by the full backlog: either fills it.
            let _ = rustix::net::connect(&caller, &address);
            held.push(caller);
        }
        Swallower { address, _held: held }
    }

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn four_silent_addresses_delay_the_fifth_by_a_second() {
        let silent: Vec<_> = (0..4).map(|_| swallower()).collect();
        let alive = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut addresses: Vec<_> = silent.iter().map(|one| one.address).collect();
        addresses.push(alive.local_addr().unwrap());
        let (begun, tried) = (Instant::now(), Mutex::new(Vec::new()));
        let stream = race(&addresses, soon(10_000), |attempt| tried.lock().unwrap().push(attempt)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[4]);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
        let tried = tried.into_inner().unwrap();
        assert_eq!(tried.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(tried.iter().all(|attempt| attempt.of == 5));
    }

    #[tokio::test]
    async fn every_address_is_tried_and_named_within_a_short_time() {
        let silent: Vec<_> = (0..3).map(|_| swallower()).collect();
        let addresses: Vec<_> = silent.iter().map(|one| one.address).collect();
        let failures = race(&addresses, soon(300), |_| {}).await.unwrap_err();
        let error = failures.into_error(false);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        for address in addresses {
            assert!(error.to_string().contains(&format!("{address}: no answer in time")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_followed_by_the_next_address_at_once() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alive = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [gone, alive.local_addr().unwrap()];
        let begun = Instant::now();
        race(&addresses, soon(10_000), |_| {}).await.unwrap();
        assert!(begun.elapsed() < STAGGER, "{:?}", begun.elapsed());
        let error = race(&[gone], soon(10_000), |_| {}).await.unwrap_err().into_error(true);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("Connection refused"), "{error}");
    }

    #[test]
    fn a_port_that_there_cannot_be_is_not_taken_for_another() {
        let is_wrong = |text: &str| has_wrong_port(&text.parse().unwrap());
        for wrong in ["ws://h:99999/ws", "ws://h:0/ws", "http://me:pw@h:70000", "ws://[::1]:65536/ws"] {
            assert!(is_wrong(wrong), "{wrong}");
        }
        for right in ["ws://h/ws", "ws://h:4000/ws", "ws://[::1]/ws", "ws://[::1]:4000/ws", "http://me:pw@h"] {
            assert!(!is_wrong(right), "{right}");
        }
    }

    #[test]
    fn the_families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        let turns = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "[2001:db8::3]:1"];
        assert_eq!(in_turns(found.clone(), None), parse(&turns));
        let turns = ["192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "[2001:db8::3]:1", "[2001:db8::1]:1"];
        let mut found = found;
        found.rotate_left(3);
        assert_eq!(in_turns(found, Some("[2001:db8::1]:1".parse().unwrap())), parse(&turns));
    }
}
