// What the demo needs before it starts: the tools, both programs, and pm2. What takes long says how far it is: cargo and npm
// themselves in a terminal, a line every few seconds elsewhere.

'use strict';

const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..');
const LINE_EVERY_MS = 10_000;
const OLDEST_NODE = Number(/\d+/.exec(require(path.join(TOP, 'package.json')).engines.node)[0]);
const AGAIN = 'then run "npm run demo" again.';

class Trouble extends Error {}

/** What went wrong, and what to do about it. */
function trouble(what, todo) {
  return new Trouble(`${what}\n  -> ${todo}`);
}

function say(line = '') {
  process.stdout.write(`${line}\n`);
}

/** Runs a program to its end, in silence. */
function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: TOP, encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (done.error && done.error.code === 'ENOENT') throw trouble(`${command} is not installed, or not on the PATH.`, `Install it, ${AGAIN}`);
  return done;
}

function isThere(command) {
  const done = spawnSync(command, ['--version'], { stdio: 'ignore' });
  return !done.error;
}

function checkRust() {
  const oldest = /^rust-version = "([^"]+)"/m.exec(fs.readFileSync(path.join(TOP, 'Cargo.toml'), 'utf8'))[1];
  const install = `Install Rust ${oldest} or later (https://rustup.rs), open a new shell, ${AGAIN}`;
  if (!isThere('cargo') || !isThere('rustc')) throw trouble('Rust (cargo and rustc) is not installed, or not on the PATH.', install);
  const found = /\d+\.\d+/.exec(run('rustc', ['--version']).stdout);
  const [major, minor] = found ? found[0].split('.').map(Number) : [0, 0];
  const [oldMajor, oldMinor] = oldest.split('.').map(Number);
  if (major < oldMajor || (major === oldMajor && minor < oldMinor)) {
    throw trouble(`Rust ${major}.${minor} is too old.`, `This needs ${oldest} or later: "rustup update stable", or see https://rustup.rs, ${AGAIN}`);
  }
  if (!process.env.CC && !isThere('cc')) throw trouble('There is no C compiler (cc), which the build needs.', `Install one, such as Debian's package gcc, ${AGAIN}`);
}

function checkNode() {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw trouble(`Node ${process.versions.node} is too old.`, `pm2 and this script need Node ${OLDEST_NODE} or later.`);
  }
}

/** What is under way, if anything: its process, and what to say when it is stopped. */
let underWay;

/** The exit code for each signal by which people stop this. */
const STOPPED_BY = { SIGINT: 130, SIGTERM: 143 };

function end(said, code) {
  process.stderr.write(`\n${said}\n`);
  process.exit(code);
}

/** Ends what is under way, and then this process, at Ctrl-C or SIGTERM. `otherwise` is said where nothing was. */
function stopOnSignals(otherwise) {
  for (const [signal, code] of Object.entries(STOPPED_BY)) {
    process.on(signal, () => {
      if (!underWay) end(otherwise, code);
      const { child, stopped } = underWay;
      // Not `close`: what cargo started may hold its output open for a while.
      child.once('exit', () => end(stopped, code));
      child.kill(signal);
    });
  }
}

/** The seconds since then. */
const seconds = (began) => Math.round((Date.now() - began) / 1000);

/**
 * Runs a program that takes its time: in a terminal with its own output, elsewhere with a line of ours every few seconds.
 * Answers its exit code, and what it printed where that was not shown.
 */
function work(command, args, { what, stopped, env = {} }) {
  const terminal = Boolean(process.stdout.isTTY && process.stderr.isTTY);
  const began = Date.now();
  const child = spawn(command, args, {
    cwd: TOP,
    env: terminal ? process.env : { ...process.env, ...env },
    stdio: terminal ? 'inherit' : ['ignore', 'pipe', 'pipe'],
  });
  underWay = { child, stopped };
  let printed = '';
  let counted = '';
  const tell = () => say(`  ${what}: ${seconds(began)} s${counted && `, ${counted}`}`);
  const timer = terminal ? undefined : setInterval(tell, LINE_EVERY_MS);
  const take = (text) => {
    const first = !counted;
    const counts = [...text.matchAll(/Building \[[^\]]*\] (\d+)\/(\d+)/g)].pop();
    if (counts) counted = `${counts[1]} of ${counts[2]} crates`;
    if (first && counted) tell();
    printed += text;
  };
  for (const stream of [child.stdout, child.stderr]) if (stream) stream.setEncoding('utf8').on('data', take);
  return new Promise((resolve, reject) => {
    child.once('error', () => reject(trouble(`${command} is not installed, or not on the PATH.`, `Install it, ${AGAIN}`)));
    child.once('close', (code, signal) => {
      // Ctrl-C goes to every process of a terminal, and this one may be the last to hear of it.
      if (signal in STOPPED_BY) end(stopped, STOPPED_BY[signal]);
      // Progress bars end with a carriage return.
      const lines = printed.split(/[\r\n]+/).filter((line) => !/^\s*Building \[/.test(line));
      resolve({ done: code === 0, took: seconds(began), printed: lines.join('\n'), ended: signal || `exit code ${code}` });
    });
  }).finally(() => {
    clearInterval(timer);
    underWay = undefined;
  });
}

async function buildPrograms() {
  say('Building the two programs ...');
  const built = await work('cargo', ['build', '--release', '--bins', '--locked'], {
    what: 'building',
    stopped: 'Stopped. What is built so far is kept: "npm run demo" goes on from there.',
    // Without a terminal cargo counts only when it is told to.
    env: { CARGO_TERM_PROGRESS_WHEN: 'always', CARGO_TERM_PROGRESS_WIDTH: '100', CARGO_TERM_COLOR: 'never' },
  });
  if (!built.done) {
    throw trouble(`cargo build --release failed (${built.ended}):\n${built.printed}`, 'cargo has said why, above. Without the network it cannot fetch the crates.');
  }
  say(`  built in ${built.took} s`);
}

async function installPm2() {
  const pinned = require(path.join(TOP, 'package.json')).devDependencies.pm2;
  let there;
  try {
    there = JSON.parse(fs.readFileSync(path.join(TOP, 'node_modules', 'pm2', 'package.json'), 'utf8')).version;
  } catch {
    there = undefined;
  }
  if (there === pinned) return;
  say(`Installing pm2 ${pinned} into node_modules/ ...`);
  const npm = await work('npm', ['ci'], {
    what: 'installing',
    stopped: 'Stopped. "npm run demo" installs pm2 again.',
  });
  if (!npm.done) throw trouble(`npm ci failed (${npm.ended}):\n${npm.printed}`, 'pm2 comes from npm: is the network there?');
  say(`  installed in ${npm.took} s`);
}

/**
 * Where the binaries are: AGENTCOM_DEMO_BIN, if others than the release's are to be shown, or where cargo leaves those;
 * CARGO_TARGET_DIR and cargo's own configuration may have moved it.
 */
function binDir() {
  if (process.env.AGENTCOM_DEMO_BIN) return path.resolve(process.env.AGENTCOM_DEMO_BIN);
  const done = run('cargo', ['metadata', '--format-version', '1', '--no-deps', '--offline']);
  if (done.status !== 0) throw trouble(`cargo metadata failed:\n${done.stderr}`, 'The message says why.');
  return path.join(JSON.parse(done.stdout).target_directory, 'release');
}

/** Makes sure that everything is there, and says how long it takes. */
async function prepare() {
  const shown = process.env.AGENTCOM_DEMO_BIN;
  if (!shown) checkRust();
  if (!shown) await buildPrograms();
  await installPm2();
}

module.exports = { TOP, Trouble, binDir, checkNode, prepare, run, say, stopOnSignals, trouble };
