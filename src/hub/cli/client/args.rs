//! Which hub a command is for: the options that all commands of a client have, and what they mean together.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::common::cli::quoted::quoted;
use crate::common::fs::regular_file;
use crate::common::http_client::HubAddress;
use crate::common::http_client::tls::{Roots, SetBy, TlsOptions};
use crate::common::secret::Secret;
use crate::hub::cli::client::failure::Failure;
use crate::hub::cli::exit_code::ExitCode;
use crate::hub::cli::show::output::note;

/// The variable that names a hub's address.
pub(in crate::hub::cli) const URL_VARIABLE: &str = "AGENTCOM_HUB_URL";
/// The variable that names the file with the token for it.
pub(in crate::hub::cli) const TOKEN_FILE_VARIABLE: &str = "AGENTCOM_HUB_TOKEN_FILE";
/// The variable that names the file with the authorities that its certificate is checked against.
pub(in crate::hub::cli) const CA_FILE_VARIABLE: &str = "AGENTCOM_HUB_CA_FILE";
/// The variable that names the folder of a hub's store.
pub(in crate::hub::cli) const DATA_VARIABLE: &str = "AGENTCOM_HUB_DATA";
/// The folder of the hub's store, if nothing names one.
pub(in crate::hub::cli) const DEFAULT_DATA: &str = "./agentcom-hub-data";
/// The most that is read of a token file, in bytes; no token is longer.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

/// Which hub a command is for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which hub")]
pub(in crate::hub::cli) struct HubArgs {
    /// The data folder of a hub on this machine, which need not run; whoever may open it is an admin [env: AGENTCOM_HUB_DATA] [default: ./agentcom-hub-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address of a hub, such as https://hub.example [env: AGENTCOM_HUB_URL]
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    hub: Option<String>,
    /// A file whose last word is the token for --hub, readable by its owner alone [env: AGENTCOM_HUB_TOKEN_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    token_file: Option<PathBuf>,
    /// A PEM file of the authorities that may have signed the certificate of --hub, in place of the machine's [env: AGENTCOM_HUB_CA_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    ca_file: Option<PathBuf>,
}

/// Where a hub is.
#[derive(Debug)]
pub(in crate::hub::cli) enum Place {
    /// At an address.
    Remote {
        /// The address, `http://` or `https://`, without a trailing slash.
        base: String,
        /// The token.
        token: Option<Secret>,
        /// How its certificate is checked.
        tls: TlsOptions,
    },
    /// On this machine, with this data folder.
    Folder(PathBuf),
}

impl HubArgs {
    /// Returns the hub that is meant. An option counts more than a variable of the environment.
    ///
    /// # Errors
    /// Two hubs are named, the address is none, or the token file cannot be used.
    pub(in crate::hub::cli) fn place(&self) -> Result<Place, Failure> {
        self.place_by(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Returns the options as they were given, each with a space before it, for a command that a message tells to type.
    pub(in crate::hub::cli) fn typed(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("--data", path(&self.data)),
            ("--hub", self.hub.clone()),
            ("--token-file", path(&self.token_file)),
            ("--ca-file", path(&self.ca_file)),
        ];
        let typed = |(option, value): (&str, Option<String>)| Some(format!(" {option} {}", quoted(&value?)));
        given.into_iter().filter_map(typed).collect()
    }

    fn place_by(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Place, Failure> {
        if let Some(data) = &self.data {
            return Ok(Place::Folder(data.clone()));
        }
        let (url, data) = match &self.hub {
            Some(url) => (Some(OsString::from(url)), None),
            None => (variable(URL_VARIABLE), variable(DATA_VARIABLE)),
        };
        if url.is_some() && data.is_some() {
            let message = format!("{URL_VARIABLE} and {DATA_VARIABLE} both name a hub: give --hub or --data");
            return Err(Failure::new(ExitCode::Usage, message));
        }
        let Some(url) = url else {
            let only_remote = [("--token-file", &self.token_file), ("--ca-file", &self.ca_file)];
            if let Some((option, _)) = only_remote.iter().find(|(_, given)| given.is_some()) {
                let message = format!("{option} is for a hub that --hub names; with --data none is needed");
                return Err(Failure::new(ExitCode::Usage, message));
            }
            return Ok(Place::Folder(data.map_or_else(|| PathBuf::from(DEFAULT_DATA), PathBuf::from)));
        };
        let wrong =
            |why: &str| Failure::new(ExitCode::Usage, format!("the hub's address (--hub, {URL_VARIABLE}): {why}"));
        let url = url.to_str().ok_or_else(|| wrong("found text that is not UTF-8"))?;
        let base = HubAddress::parse(url).map_err(|why| wrong(&why))?.http;
        let file = |given: &Option<PathBuf>, name| given.clone().or_else(|| variable(name).map(PathBuf::from));
        let token = file(&self.token_file, TOKEN_FILE_VARIABLE).as_deref().map(read_token).transpose()?;
        let roots = file(&self.ca_file, CA_FILE_VARIABLE).map_or(Roots::Native, Roots::File);
        Ok(Place::Remote { base, token, tls: TlsOptions { roots, client: None, set_by: SetBy::Option } })
    }
}

/// Reads a token, the last word of a file, as `agentcom-hub token --out` and its stdout have it.
fn read_token(file: &Path) -> Result<Secret, Failure> {
    let unusable = |why: &dyn std::fmt::Display| {
        let message =
            format!("the token file {} cannot be used: {why}; name another with --token-file", file.display());
        Failure::new(ExitCode::Unusable, message)
    };
    let bytes = regular_file::read(file, MAX_TOKEN_FILE_BYTES).map_err(|error| unusable(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable(&"it is not UTF-8"))?;
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        note(format_args!("other users may read the token in {0}: chmod 600 {0}", file.display()));
    }
    let last = text.split_whitespace().last();
    last.map(Secret::new).ok_or_else(|| unusable(&"there is no word in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: Option<&str>, hub: Option<&str>, token_file: Option<&str>) -> HubArgs {
        HubArgs {
            data: data.map(PathBuf::from),
            hub: hub.map(str::to_owned),
            token_file: token_file.map(PathBuf::from),
            ca_file: None,
        }
    }

    fn shown(args: &HubArgs, variables: &[(&str, &str)]) -> String {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        match args.place_by(find) {
            Ok(Place::Folder(data)) => data.display().to_string(),
            Ok(Place::Remote { base, token: None, .. }) => base,
            Ok(Place::Remote { base, token: Some(_), .. }) => format!("{base} with a token"),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn an_option_counts_more_than_the_environment() {
        let both = [(URL_VARIABLE, "http://h:1"), (DATA_VARIABLE, "/d")];
        assert_eq!(shown(&args(None, None, None), &[]), DEFAULT_DATA);
        assert_eq!(shown(&args(Some("/e"), None, None), &both), "/e");
        assert_eq!(shown(&args(None, Some("ws://h:2/ws"), None), &both), "http://h:2");
        assert_eq!(shown(&args(None, None, None), &both[1..]), "/d");
        assert_eq!(shown(&args(None, None, None), &both[..1]), "http://h:1");
        assert!(shown(&args(None, None, None), &both).contains("both name a hub"));
    }

    #[test]
    fn a_token_is_the_last_word_of_a_file_and_only_for_an_address() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "token for ops: 12ab\n").unwrap();
        assert_eq!(shown(&args(None, Some("http://h"), Some(path)), &[]), "http://h with a token");
        assert_eq!(shown(&args(None, Some("http://h"), None), &[(TOKEN_FILE_VARIABLE, path)]), "http://h with a token");
        assert!(shown(&args(None, None, Some(path)), &[]).contains("--token-file is for a hub that --hub names"));
        std::fs::write(path, " \n").unwrap();
        assert!(shown(&args(None, Some("http://h"), Some(path)), &[]).contains("no word in it"));
        assert!(shown(&args(None, Some("http://a:b@h"), None), &[]).contains("credentials"));
    }
}
