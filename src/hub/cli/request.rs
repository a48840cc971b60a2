//! The requests that the commands send to the hub of a data dir.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::hub::admin_socket::{self, Request, Response, TokenError};
use crate::hub::cli::output::fail;
use crate::hub::server::{ServeError, make_private_dir};

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The folder of the hub's store; created if missing
    #[arg(long = "data", value_name = "DIR", env = "AGENTCOM_HUB_DATA", default_value = "./agentcom-hub-data")]
    pub(crate) dir: PathBuf,
}

/// Sends the request to the running hub, or applies it to the store where none runs. On failure prints the error and
/// returns the exit code as `Err`.
pub(super) fn request_or_fail(data: &DataArgs, request: &Request) -> Result<Response, ExitCode> {
    make_data_dir(data)?;
    admin_socket::request(&data.dir, request).map_err(|error| fail(exit_code_of(&error), &error.to_string()))
}

/// Returns the exit code for a failed request.
pub(super) const fn exit_code_of(error: &TokenError) -> u8 {
    match error {
        TokenError::Busy(_) | TokenError::Unanswered(_) => 75,
        TokenError::Store(_) => 78,
        TokenError::Refused(_) | TokenError::NoRandomBytes(_) => 70,
    }
}

/// Creates the data dir if it is missing. On failure prints the error and returns the exit code as `Err`.
pub(super) fn make_data_dir(data: &DataArgs) -> Result<(), ExitCode> {
    make_private_dir(&data.dir)
        .map_err(|error| fail(78, &ServeError::DataDir { path: data.dir.clone(), error }.to_string()))
}
