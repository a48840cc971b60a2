//! Checks for secrets that pm2 stores: in the environment of its apps and its daemon, and in the files that `pm2 save`
//! writes. It names variables, apps and files, and never quotes a value.

use std::io;
use std::path::{Path, PathBuf};

use crate::common::cli::quoted::quoted;
use crate::common::fs::regular_file;
use crate::common::secret::Secret;
use crate::sidecar::cli::check::Finding;
use crate::sidecar::cli::check::files::mode;
use crate::sidecar::cli::check::secrets::{is_hub_token, looks_secret};
use crate::sidecar::config::{ADMIN_TOKEN_VARIABLE, TOKEN_VARIABLE};
use crate::sidecar::supervisor::pm2::{Launch, Pm2Process, parse_dump};

const CHECK: &str = "pm2 secrets";
/// The file that `pm2 save` writes, and its copy of the one before.
const DUMPS: [&str; 2] = ["dump.pm2", "dump.pm2.bak"];
/// The most that is read of a dump, bytes: a list of a thousand apps with large environments.
const MAX_DUMP_BYTES: u64 = 32 << 20;
/// The most that is read of `pm2.pid`, bytes.
const MAX_PID_BYTES: u64 = 64;
/// The variable of an admin's token in early instructions, which exported it before `pm2 start`.
const FORMER_ADMIN_VARIABLE: &str = "ADMIN";
/// The sidecar's program.
const SIDECAR: &str = "agentcom-sidecar";
/// The hub's program, and its app in `ecosystem.config.js`.
const HUB: &str = "agentcom-hub";

/// An app, and the names of its variables that look like secrets.
struct AppSecrets<'a> {
    app: &'a Pm2Process,
    variables: Vec<&'a str>,
}

/// Whether pm2's daemon has secrets, which the next `pm2 save` would write.
#[derive(Debug, Clone, Copy)]
enum DaemonSecrets {
    /// Its apps have some in their environments.
    ByApps,
    /// No app has any.
    Nowhere,
    /// No daemon answers.
    Unknown,
}

impl AppSecrets<'_> {
    fn name(&self) -> &str {
        self.app.name.as_deref().unwrap_or("NAME")
    }
}

/// Returns one finding for each app and each file that stores a secret, and for the daemon. `token` is the agent's, if
/// it is known; `listed` is the daemon's list of apps, if it answered.
pub(super) fn check(home: &Path, listed: Option<&[Pm2Process]>, token: Option<&Secret>) -> Vec<Finding> {
    let handed = apps_with_secrets(listed.unwrap_or_default(), token);
    let mut findings: Vec<Finding> = handed.iter().map(app_finding).collect();
    let in_daemon = match listed {
        None => DaemonSecrets::Unknown,
        Some(_) if handed.is_empty() => DaemonSecrets::Nowhere,
        Some(_) => DaemonSecrets::ByApps,
    };
    findings.extend(DUMPS.iter().filter_map(|name| dump_finding(&home.join(name), in_daemon, token)));
    // The process id that a former daemon left behind may be another process's by now.
    findings.extend(listed.and_then(|_| daemon_finding(home, token)));
    findings
}

fn app_finding(secrets: &AppSecrets<'_>) -> Finding {
    let AppSecrets { app, variables } = secrets;
    let found =
        format!("pm2 hands {:?} what looks like a secret, and saves it: {}", secrets.name(), variables.join(", "));
    let config = config_of(app).map(|path| quoted(&path.display().to_string()));
    let mut todo = String::new();
    if variables.contains(&TOKEN_VARIABLE) {
        let file = config.as_deref().unwrap_or("its config.json");
        todo += &format!("put the agent's token into {file} (mode 0600) as `token`; ");
    }
    let of_a_hub = [TOKEN_VARIABLE, ADMIN_TOKEN_VARIABLE, FORMER_ADMIN_VARIABLE];
    if is_program(app, SIDECAR) && variables.iter().any(|name| !of_a_hub.contains(name)) {
        todo += "what the agent's session needs of them, its wake command can read from a file of mode 0600; ";
    }
    let (name, unset) = (quoted(secrets.name()), env_without(variables));
    todo += &match start_variables(app, config) {
        Some(ours) => format!(
            "pm2 delete {name} && {unset}{ours} pm2 start ecosystem.config.js --only {name} && pm2 save && pm2 save"
        ),
        None => format!("pm2 delete {name}, start it as before behind `{unset}`, then pm2 save && pm2 save"),
    };
    Finding::warning(CHECK, found).then(todo)
}

fn env_without(variables: &[&str]) -> String {
    let unset: String = variables.iter().map(|variable| format!(" -u {}", quoted(variable))).collect();
    format!("env{unset}")
}

fn config_of(app: &Pm2Process) -> Option<PathBuf> {
    let Launch { cwd, config, .. } = &app.launch;
    config.as_ref().map(|path| cwd.as_ref().map_or_else(|| path.clone(), |cwd| cwd.join(path)))
}

/// Returns the assignments that `ecosystem.config.js` starts the app by, or `None` if it cannot start the app.
fn start_variables(app: &Pm2Process, config: Option<String>) -> Option<String> {
    let own = match config.filter(|_| is_program(app, SIDECAR)) {
        Some(config) => format!(" AGENTCOM_CONFIG={config} AGENTCOM_NAME={}", quoted(app.name.as_deref()?)),
        None if app.name.as_deref() == Some(HUB) && is_program(app, HUB) => String::new(),
        None => return None,
    };
    let told = |(name, value): &(String, Secret)| {
        let value = value.expose();
        let counts = name.starts_with("AGENTCOM_") && !matches!(name.as_str(), "AGENTCOM_CONFIG" | "AGENTCOM_NAME");
        (counts && !value.is_empty() && !looks_secret(name, value)).then(|| format!(" {name}={}", quoted(value)))
    };
    Some(app.environment.iter().filter_map(told).collect::<String>() + &own)
}

/// Checks the daemon's environment, which it has from the shell that started it. It passes none of it on, but every
/// process of its user can read it.
fn daemon_finding(home: &Path, token: Option<&Secret>) -> Option<Finding> {
    let text = |path: &Path, max_bytes| regular_file::read(path, max_bytes).ok();
    let pid: u32 = std::str::from_utf8(&text(&home.join("pm2.pid"), MAX_PID_BYTES)?).ok()?.trim().parse().ok()?;
    let environment = text(&PathBuf::from(format!("/proc/{pid}/environ")), MAX_DUMP_BYTES)?;
    let environment = String::from_utf8_lossy(&environment);
    let pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
    let variables: Vec<&str> =
        pairs.filter(|(name, value)| is_hub_secret(name, value, token)).map(|(name, _)| name).collect();
    let found = format!("pm2's daemon (process {pid}) was started with {} in its environment", variables.join(", "));
    let todo = format!("pm2 save && {} pm2 update (it restarts every app)", env_without(&variables));
    (!variables.is_empty()).then(|| Finding::warning(CHECK, found).then(todo))
}

/// Checks one dump. Returns `None` if it holds no secret or does not exist.
fn dump_finding(path: &Path, in_daemon: DaemonSecrets, token: Option<&Secret>) -> Option<Finding> {
    let shown = path.display();
    let unread = |why: &dyn std::fmt::Display| {
        Finding::warning(CHECK, format!("whether {shown} keeps secrets cannot be told: {why}"))
            .then("look into it as its user; pm2 save writes it anew")
    };
    let bytes = match regular_file::read(path, MAX_DUMP_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unread(&error)),
    };
    let apps = match parse_dump(&bytes) {
        Ok(apps) => apps,
        Err(why) => return Some(unread(&why)),
    };
    let kept = apps_with_secrets(&apps, token);
    if kept.is_empty() {
        return None;
    }
    let of_each: Vec<_> =
        kept.iter().map(|secrets| format!("{} of {:?}", secrets.variables.join(", "), secrets.name())).collect();
    let mode = mode(path).map(|mode| mode & 0o777).unwrap_or_default();
    let is_open = mode & 0o077 != 0;
    let whose = if is_open { "others can read it" } else { "its user's alone" };
    let found = format!("{shown} (mode {mode:03o}, {whose}) keeps what looks like secrets: {}", of_each.join("; "));
    let close = if is_open { format!("chmod 600 {}; ", quoted(&shown.to_string())) } else { String::new() };
    let first = match in_daemon {
        DaemonSecrets::ByApps => "once pm2 itself has none (above): ",
        DaemonSecrets::Nowhere => "",
        DaemonSecrets::Unknown => "no pm2 runs: start the apps anew by ecosystem.config.js, then ",
    };
    let replace = if is_open {
        "; replace what others could read, a hub's token by agentcom-hub token NAME --replace --out FILE, with --admin for \
         an admin's"
    } else {
        ""
    };
    let todo = format!("{close}{first}pm2 save && pm2 save (the second is for dump.pm2.bak){replace}");
    Some(Finding::warning(CHECK, found).then(todo))
}

fn apps_with_secrets<'a>(apps: &'a [Pm2Process], token: Option<&Secret>) -> Vec<AppSecrets<'a>> {
    let secrets = |app: &'a Pm2Process| {
        let ours = is_program(app, SIDECAR) || is_program(app, HUB);
        let is_kept = |(name, value): &&(String, Secret)| {
            let value = value.expose();
            is_hub_secret(name, value, token) || (ours && looks_secret(name, value))
        };
        let variables: Vec<_> = app.environment.iter().filter(is_kept).map(|(name, _)| name.as_str()).collect();
        (!variables.is_empty()).then_some(AppSecrets { app, variables })
    };
    apps.iter().filter_map(secrets).collect()
}

/// Returns whether the variable is a secret of a hub or sidecar, in any app. Secrets of other apps are not reported.
fn is_hub_secret(name: &str, value: &str, token: Option<&Secret>) -> bool {
    let ours = [TOKEN_VARIABLE, ADMIN_TOKEN_VARIABLE].contains(&name) && !value.is_empty();
    let admin = name == FORMER_ADMIN_VARIABLE && is_hub_token(value);
    ours || admin || token.is_some_and(|token| value.split_whitespace().any(|word| word == token.expose()))
}

fn is_program(app: &Pm2Process, name: &str) -> bool {
    let program = app.launch.program.as_ref().and_then(|path| path.file_name()?.to_str());
    program.is_some_and(|program| program.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_was_told_is_told_anew_without_its_secrets() {
        let json = br#"[{"name":"agentcom-hub","pm_exec_path":"/opt/agentcom-hub","env":{"ADMIN":"x","HOME":"/root",
            "AGENTCOM_HUB_LISTEN":"127.0.0.1:4000","AGENTCOM_HUB_DATA":"/a hub","AGENTCOM_ADMIN_TOKEN":"y"}},
            {"name":"my hub","pm_exec_path":"/opt/agentcom-hub","env":{"ADMIN":"x"}}]"#;
        let apps = parse_dump(json).unwrap();
        let sentences: Vec<_> =
            apps_with_secrets(&apps, None).iter().map(|secrets| app_finding(secrets).as_sentence()).collect();
        let todo = "pm2 delete agentcom-hub && env -u ADMIN -u AGENTCOM_ADMIN_TOKEN AGENTCOM_HUB_DATA='/a hub' \
                    AGENTCOM_HUB_LISTEN=127.0.0.1:4000 pm2 start ecosystem.config.js --only agentcom-hub && pm2 save && pm2 save";
        assert!(sentences[0].ends_with(&format!("; {todo}")), "{}", sentences[0]);
        let todo = "pm2 delete 'my hub', start it as before behind `env -u ADMIN`, then pm2 save && pm2 save";
        assert!(sentences[1].ends_with(&format!("; {todo}")), "{}", sentences[1]);
    }
}
