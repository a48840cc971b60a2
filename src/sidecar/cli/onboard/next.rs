//! The text that `onboard` ends with: the next steps, as commands to paste. It runs none of them.

use std::fmt::Write as _;
use std::path::Path;

use crate::common::cli::quoted::quoted;
use crate::common::fs::atomic_file::folder_of;
use crate::common::http_client::HubAddress;
use crate::sidecar::config::Loaded;
use crate::sidecar::supervisor::pm2::SHELL_EXEC;

/// Returns the text for a terminal.
pub(super) fn text(loaded: &Loaded, results: &Path, hub: &HubAddress, registered: bool) -> String {
    let config = &loaded.config;
    let (name, file) = (&config.agent_id, config.path.display());
    let done = if registered { "is registered at" } else { "has a token for" };
    let mut text = format!("{name} {done} {}.\n\n", hub.http);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {file}   mode 0600: it holds the agent's token");
    let _ = writeln!(text, "  {}/   for the agent's results\n\nNext:", results.display());
    let mut number = 0;
    let mut step = |what: &str, command: &str| {
        number += 1;
        let _ = writeln!(text, "  {number}. {what}");
        if !command.is_empty() {
            let _ = writeln!(text, "       {command}");
        }
    };
    if config.wake_command.is_none() {
        step(
            "Write `wake_command` into it: what wakes the agent for a task (docs/operating.md, \"Onboard an agent\").",
            "",
        );
    }
    let program = program();
    let quoted_file = quoted(&file.to_string());
    step("Check that all is well:", &format!("{program} check --config {quoted_file}"));
    step("Start it under pm2:", &pm2_start(name, &program, &config.path));
    step("Bring it back after a reboot:", "pm2 save && pm2 startup");
    text
}

/// Parts of the names of variables that pm2 must not store. `ecosystem.config.js` has the exact rule.
const FILTER: &str = "--filter-env TOKEN --filter-env SECRET --filter-env PASSW --filter-env _KEY --filter-env ADMIN";

/// Returns the command that starts the sidecar as `ecosystem.config.js` does, which has the reason of each setting.
fn pm2_start(name: &str, program: &str, config: &Path) -> String {
    let folder = quoted(&folder_of(config).display().to_string());
    // pm2 runs a path with a space in it by `bash -c`, without the arguments, so `/bin/sh` is started and executes the
    // program.
    let (script, first) = match program.contains(' ') {
        true => ("/bin/sh", format!("-c '{SHELL_EXEC}' {program} ")),
        false => (program, String::new()),
    };
    format!(
        "pm2 start {script} --name {} --cwd {folder} --interpreter none --exp-backoff-restart-delay 2 \
         --max-restarts 100000 --kill-timeout 8000 --no-treekill --no-vizion {FILTER} -- {first}run --config {}",
        quoted(name),
        quoted(&config.display().to_string())
    )
}

/// Returns the path of this program, quoted for a shell.
fn program() -> String {
    match std::env::current_exe() {
        Ok(path) => quoted(&path.display().to_string()),
        Err(_) => "agentcom-sidecar".to_owned(),
    }
}
