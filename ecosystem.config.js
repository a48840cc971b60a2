// The two programs under pm2: `pm2 start ecosystem.config.js`, or one of them with `--only agentcom-sidecar`.
//
// What may differ from machine to machine is read from the environment; pm2 remembers it with the app.
//   AGENTCOM_CONFIG      the sidecar's config.json              (default: ./config.json)
//   AGENTCOM_NAME        pm2's name for the sidecar             (default: agentcom-sidecar)
//   AGENTCOM_HUB_LISTEN  where the hub listens                  (default: 127.0.0.1:4000)
//   AGENTCOM_HUB_DATA    the hub's folder                       (default: ./agentcom-hub-data)
//   AGENTCOM_BIN_DIR     where the binaries are                 (default: ./bin, as in a release, else ./target/release)
//   AGENTCOM_LOG_DIR     what they print                        (default: ./logs)
//   AGENTCOM_AGENTS      a folder of agents                     (default: none)
// Several agents on one machine: each in a folder of its own with its config.json, all of those in one folder, and that
// in AGENTCOM_AGENTS. Each becomes an app named like its folder, and the file then has no hub: `pm2 start` restarts each app
// of this file that runs, and would move a hub to the address in this shell's environment. AGENTCOM_CONFIG, AGENTCOM_NAME and
// the hub's variables are then unused, and `--only agentcom-hub` starts nothing.

// What looks like a secret (a token, a key, a password: `looksSecret`) is passed to neither program: pm2 would keep it, and
// `pm2 save` would write it to a file that other users can read. The sidecar has its token from config.json, and a wake command
// reads what its session needs from a file of mode 0600.

const fs = require('fs');
const path = require('path');

// The rule of `agentcom-sidecar check`, which looks into what pm2 has stored (src/sidecar/cli/check/secrets.rs).
const SECRET_NAME =
  /(TOKEN|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|SSHPASS|CREDENTIALS?|KEYS?|(?<![a-z0-9])(ADMIN|PASS|AUTH|AUTHORIZATION|BEARER|JWT|COOKIE)|[^a-z0-9]PWD)\d*(?![a-z0-9])/i;
const NAME_OF_A_FILE = /(?<![a-z0-9])(FILE|PATH|DIR|SOCK)$/i;
const HUB_TOKEN = /(?<!\S)[0-9a-f]{64}(?!\S)/i;
const PASSWORD_IN_URL = /:\/\/[^\s/@:]*:[^\s/@]+@/;
const looksSecret = ([name, value]) =>
  value !== '' &&
  ((SECRET_NAME.test(name) && !NAME_OF_A_FILE.test(name)) || HUB_TOKEN.test(value) || PASSWORD_IN_URL.test(value));

const secrets = Object.entries(process.env).filter(looksSecret).map(([name]) => name);
// Deleted from pm2's own process, which loads this file: `filter_env` does not apply to an app that runs already and is
// restarted.
for (const name of secrets) delete process.env[name];
if (secrets.length > 0) process.stderr.write(`ecosystem.config.js: kept from pm2, since they look like secrets: ${secrets.join(', ')}\n`);

// pm2 resolves relative paths from the caller's folder; these are relative to this file.
const here = (name, fallback) => path.resolve(__dirname, process.env[name] || fallback);

const bin = here('AGENTCOM_BIN_DIR', fs.existsSync(path.join(__dirname, 'bin', 'agentcom-hub')) ? 'bin' : 'target/release');
for (const program of ['agentcom-hub', 'agentcom-sidecar']) {
  // pm2 says "Script not found" and no more.
  if (fs.existsSync(path.join(bin, program))) continue;
  process.stderr.write(`ecosystem.config.js: ${path.join(bin, program)} is not there: "cargo build --release" builds it, or AGENTCOM_BIN_DIR says where it is\n`);
}
const logs = here('AGENTCOM_LOG_DIR', 'logs');
const config = here('AGENTCOM_CONFIG', 'config.json');
const sidecar = process.env.AGENTCOM_NAME || 'agentcom-sidecar';
const hub = 'agentcom-hub';

const common = {
  // A binary, run as it is: 'cluster' mode would make pm2 load it as JavaScript and crash-loop without a message.
  interpreter: 'none',
  exec_mode: 'fork',
  instances: 1,

  // Exit 0 is how the sidecar asks to be started again, so a start must follow every exit. No stop_exit_codes:
  // beside a restart delay they leave a dead app that reads "waiting restart" for ever. A wrong config (exit 78) is
  // therefore tried again, ever more slowly, and works once the file is right; the error log says what is wrong with it.
  autorestart: true,

  // 2, 3, 4, 6, 9, 13 ms ... x1.5 up to 15 s, and from the start again after a run of 30 s. A commanded restart is
  // usually the first in a while and costs 2 ms; a crash loop slows down. (1 would stay 1: pm2 rounds down.)
  exp_backoff_restart_delay: 2,

  // pm2's other guard ("errored" after so many exits sooner than min_uptime) counts commanded restarts too, looks only
  // at the first min_uptime x max_restarts ms after `pm2 start`, and beside a delay it shows "waiting restart" for an app
  // that it has given up. So it is set too high to apply: the delay above is the guard, and it shows the true state.
  max_restarts: 100000,

  // The app itself ends its children or leaves them running; pm2 would interrupt them first.
  treekill: false,

  // Otherwise pm2 looks for a git repository at every start.
  vizion: false,

  // Matches parts of names; for a pm2 that gets this as JSON, whose environment was not cleaned above.
  filter_env: ['AGENTCOM_TOKEN', 'ADMIN'],

  // Each line has its own time.
  time: false,
  merge_logs: true,
};

// pm2 gives a path with a space in it to `bash -c`, in pieces and without the arguments. So a shell is started instead, which
// replaces itself by the program under the same process id.
const run = (program, args) =>
  program.includes(' ')
    ? { script: '/bin/sh', args: ['-c', 'exec "$0" "$@"', program, ...args] }
    : { script: program, args };

const app = (name, program, args, more) => ({
  ...common,
  ...run(path.join(bin, program), args),
  name,
  out_file: path.join(logs, `${name}.out.log`),
  error_file: path.join(logs, `${name}.err.log`),
  ...more,
  // PM2_PROCESS_NAME is the app's name in pm2, whatever else is in the environment.
  env: { PM2_PROCESS_NAME: name, ...more.env },
});

// Longer than the drain (drain_deadline_ms, 5 s by default), so that pm2 does not kill the sidecar during it.
const sidecarApp = (name, config) =>
  app(name, 'agentcom-sidecar', ['run', '--config', config], {
    cwd: path.dirname(config),
    kill_timeout: 8000,
  });

// The agents in the folder: names and paths of config.json.
function agentsIn(folder) {
  const agents = fs.readdirSync(folder).sort().map((name) => [name, path.join(folder, name, 'config.json')]);
  const found = agents.filter(([, file]) => fs.existsSync(file));
  if (found.length === 0) throw new Error(`AGENTCOM_AGENTS: ${folder} holds no folder with a config.json in it`);
  return found;
}

const hubApp = () =>
  app(
    hub,
    hub,
    ['serve', '--listen', process.env.AGENTCOM_HUB_LISTEN || '127.0.0.1:4000', '--data', here('AGENTCOM_HUB_DATA', 'agentcom-hub-data')],
    { cwd: __dirname, kill_timeout: 5000 },
  );

module.exports = {
  apps: process.env.AGENTCOM_AGENTS
    ? agentsIn(here('AGENTCOM_AGENTS')).map(([name, file]) => sidecarApp(name, file))
    : [hubApp(), sidecarApp(sidecar, config)],
};
