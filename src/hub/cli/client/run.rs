//! How a command runs: until its work is done, or until SIGINT or SIGTERM tells it to stop. Then its work is dropped, and what
//! it had begun with it: a file that is half written, a store that was opened.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::common::signals::handle_meaningless;
use crate::hub::cli::client::args::HubArgs;
use crate::hub::cli::client::door::{Door, Folder};
use crate::hub::cli::client::{Client, Failure};
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::{Output, fail, print};

/// How long a command that was told to stop may take for it: a reader of stdout that takes nothing must not keep it.
const GRACE: Duration = Duration::from_secs(2);
/// How long its threads may take for it, which notice once their work has been dropped.
const THREADS_GRACE: Duration = Duration::from_secs(1);

/// Runs a command's work as a client, prints what it returns, and returns the exit code.
pub(in crate::hub::cli) fn run(
    args: &HubArgs,
    folder: Folder,
    work: impl AsyncFnOnce(&mut Client) -> Result<Output, Failure>,
) -> ExitCode {
    let started = runtime().and_then(|runtime| Ok((runtime, listen()?)));
    let (runtime, stop) = match started {
        Ok(started) => started,
        Err(error) => {
            return fail(
                ExitCode::NoResources,
                format_args!("no runtime: {error}; check the limits on threads and files"),
            );
        }
    };
    let done = runtime.block_on(async {
        // Without it, a write beyond `ulimit -f` ends this process; with it, that is an error of the disk.
        let _ = handle_meaningless();
        let mut client = Client { door: Door::new(args.place()?, folder) };
        let done = tokio::select! {
            done = work(&mut client) => done,
            Ok(code) = stop => Err(Failure::silent(code)),
        };
        client.door.close().await?;
        done
    });
    let code = finish(done);
    match code {
        ExitCode::Interrupted | ExitCode::Terminated => runtime.shutdown_timeout(THREADS_GRACE),
        // A name lookup that hangs must not delay the exit.
        ExitCode::Done
        | ExitCode::No
        | ExitCode::Usage
        | ExitCode::Unread
        | ExitCode::Unavailable
        | ExitCode::Internal
        | ExitCode::NoResources
        | ExitCode::Disk
        | ExitCode::Busy
        | ExitCode::Deposed
        | ExitCode::NotAllowed
        | ExitCode::Unusable
        | ExitCode::TimedOut => runtime.shutdown_background(),
    }
    code
}

/// Prints what a command comes to, and returns the exit code.
pub(in crate::hub::cli) fn finish(done: Result<Output, Failure>) -> ExitCode {
    match done {
        Ok(Output { text, code }) => print(text.as_bytes()).map_or_else(|code| code, |()| code),
        Err(failure) if failure.message.is_empty() => failure.code,
        Err(failure) => fail(failure.code, failure.message),
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Listens for SIGINT and SIGTERM. Returns what receives the exit code of the first; at the second, or where the command does
/// not end in time, the process ends.
fn listen() -> io::Result<oneshot::Receiver<ExitCode>> {
    let runtime = runtime()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? }
    };
    let (tell, told) = oneshot::channel();
    let listen = async move {
        let code = signals.next().await;
        // Where nobody is told, the work is done, and at most stdout is waited for.
        if tell.send(code).is_ok() {
            let _ = timeout(GRACE, signals.next()).await;
        }
        std::process::exit(code as i32)
    };
    // A thread of its own: the command's may be waiting for stdout.
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(listen))?;
    Ok(told)
}

/// The signals that tell a command to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Returns the exit code for the next one.
    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::Interrupted,
            _ = self.terminate.recv() => ExitCode::Terminated,
        }
    }
}
