//! The way to a hub's port: directly, or through a proxy. What is spoken on the stream, TLS
//! included, is the caller's concern.

use std::io;
use std::net::SocketAddr;

use hyper::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::http_client::addresses::{self, Attempt, host, is_tls};
use crate::common::http_client::dial::with_hint;
use crate::common::http_client::proxy::{self, Proxies, Proxy};
use crate::common::http_client::tls::{self, TlsOptions};

/// A connection that bytes go over, both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// How hubs are reached.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// How TLS is spoken to a hub whose URL asks for it.
    pub tls: TlsOptions,
    /// The proxies on the way.
    pub proxies: Proxies,
}

impl Transport {
    /// Returns the transport to a server on this machine, whatever its address.
    pub fn without_proxies() -> Self {
        Self { tls: TlsOptions::default(), proxies: Proxies::None }
    }
}

/// A step on the way.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A host's name is looked up.
    LooksUp {
        /// The host.
        host: &'a str,
        /// The proxy whose host it is.
        proxy: Option<&'a Proxy>,
    },
    /// An address is dialled.
    Connects {
        /// The address.
        attempt: Attempt,
        /// The proxy whose address it is.
        proxy: Option<&'a Proxy>,
    },
    /// The proxy is asked for a tunnel.
    AsksProxy {
        /// The proxy.
        proxy: &'a Proxy,
    },
}

/// Opens a stream to the port that the URL names, before `deadline`; of several addresses `last` is tried last. Returns
/// it with the address that was connected to: the host's, or the proxy's.
///
/// # Errors
/// Why there is none, and what to do.
pub async fn open(
    uri: &Uri,
    proxies: Proxies,
    last: Option<SocketAddr>,
    deadline: Instant,
    step: impl Fn(Step<'_>),
) -> io::Result<(Box<dyn ByteStream>, SocketAddr)> {
    let Some(proxy) = proxies.proxy_for(uri).map_err(io::Error::other)? else {
        let stream = connect((uri, last), None, deadline, &step).await?;
        let address = stream.peer_addr()?;
        return Ok((Box::new(stream), address));
    };
    let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("the proxy {proxy}: {why}"));
    let stream = connect((&proxy.uri, last), Some(&proxy), deadline, &step)
        .await
        .map_err(|error| failed(&with_hint(&error, "it")))?;
    let address = stream.peer_addr()?;
    step(Step::AsksProxy { proxy: &proxy });
    let tunnel = async {
        let mut stream: Box<dyn ByteStream> = if is_tls(&proxy.uri) {
            let secure = secure(stream, host(&proxy.uri), &TlsOptions::default()).await;
            Box::new(secure.map_err(|error| failed(&error))?)
        } else {
            Box::new(stream)
        };
        proxy::tunnel(&mut stream, &proxy, uri).await.map_err(io::Error::other)?;
        Ok::<_, io::Error>(stream)
    };
    match timeout_at(deadline, tunnel).await {
        Ok(stream) => Ok((stream?, address)),
        Err(_) => Err(failed(&"it did not open a tunnel in time; is it an HTTP proxy, and can it reach the hub?")),
    }
}

async fn connect(
    (uri, last): (&Uri, Option<SocketAddr>),
    proxy: Option<&Proxy>,
    deadline: Instant,
    step: &impl Fn(Step<'_>),
) -> io::Result<TcpStream> {
    step(Step::LooksUp { host: host(uri), proxy });
    addresses::connect(uri, last, deadline, |attempt| step(Step::Connects { attempt, proxy })).await
}

/// Speaks TLS on a stream.
///
/// # Errors
/// The handshake's error; with [`io::ErrorKind::InvalidInput`], what is wrong with the files of `options` or with the
/// name.
pub async fn secure<S>(stream: S, name: &str, options: &TlsOptions) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let unusable = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let config = tls::client_config(options).await.map_err(unusable)?;
    let no_name = |error| unusable(format!("{name:?} is no name that a certificate can be for: {error}"));
    let name = ServerName::try_from(name.to_owned()).map_err(no_name)?;
    TlsConnector::from(config).connect(name, stream).await
}
