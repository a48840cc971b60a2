//! The ground that tests stand on: real processes, real sockets, real pm2, and a double of the existing hub. Nothing in
//! here decides what is right; it starts, steers, records and waits, and leaves the judging to the test.
//!
//! - [`legacy_hub`]: a double of the existing (Elixir) hub, in-process, scriptable, strict.
//! - [`hub`]: our own `agentcom-hub`, the real binary, with a small JSON-over-HTTP client.
//! - [`backup`]: a client that fetches a backup from `agentcom-hub`.
//! - [`sidecar`]: a folder with everything one agent needs, and the real `agentcom-sidecar` in it.
//! - [`new_version`]: the real `agentcom-sidecar` under another version.
//! - [`npm`]: what is installed from npm.
//! - [`pm2`]: a real pm2 daemon of the test's own.
//! - [`pm2_double`]: what answers for pm2's daemon where a sidecar only asks it.
//! - [`ground`]: hub and sidecar beside each other under one pm2, by the real `ecosystem.config.js`.
//! - [`scene`]: the double and one agent with short times, for stories.
//! - [`postgres`]: a PostgreSQL server of the test's own, with replicas.
//! - [`prometheus`]: a strict reader of the metrics' text.
//! - [`proxy`]: a TCP proxy in front of a hub, that fails as it is told.
//! - [`encodings`]: a table of ways to write a JSON object, and how each is to be read.
//! - [`database_proxy`]: a TCP proxy before a database.
//! - [`disk`]: a disk of the test's own, to be filled.
//! - [`tls`]: a TLS front door before a hub.
//! - [`web`]: a web server that says what it is told, for hubs that misbehave.
//! - [`wait`]: waiting for a thing, with a bound.

// Each test binary compiles all of this and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]
// A failing test tells its story on stderr, beside the panic's own message.
#![allow(clippy::print_stderr)]

pub mod backup;
pub mod database_proxy;
pub mod disk;
pub mod encodings;
pub mod ground;
pub mod hub;
pub mod legacy_hub;
pub mod new_version;
pub mod npm;
pub mod pm2;
pub mod pm2_double;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod scene;
pub mod sidecar;
pub mod tls;
pub mod wait;
pub mod web;
