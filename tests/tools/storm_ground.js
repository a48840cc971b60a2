// What the storm goes over: one hub that is started again after each end, sidecars under one real pm2, a proxy before the hub
// for each agent, all in one folder. Nothing is judged here.

'use strict';

const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..');
const BUILT = process.env.AGENTCOM_STORM_BIN;
const BIN = path.resolve(BUILT || path.join(process.env.CARGO_TARGET_DIR || path.join(TOP, 'target'), 'release'));
const PM2 = path.join(TOP, 'node_modules', '.bin', 'pm2');

// Short: pm2's sockets live in it, and a unix socket's path has at most 108 bytes. Every process of the storm has it among
// its arguments (pm2's daemon in its title), and no other process has.
const BASE = fs.mkdtempSync(path.join(os.tmpdir(), 'act-'));
const at = (...names) => path.join(BASE, ...names);

// Linux' ports for outgoing connections begin at 32768: one of those could be taken while the hub is dead.
const PORTS = { from: 20_000, count: 10_000 };
const COMMAND_BOUND_MS = 90_000;
// A wake that was lost with its sidecar fails the task, which comes again; the default is 30 s.
const CONFIRMATION_MS = 10_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: TOP, encoding: 'utf8', ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.status}:\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

const commands = new Set();

/** Beside everything else: exit code and what was printed. */
function runBeside(command, args, env = process.env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: TOP, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: COMMAND_BOUND_MS, killSignal: 'SIGKILL' });
    commands.add(child);
    let [out, err] = ['', ''];
    child.stdout.on('data', (text) => (out += text));
    child.stderr.on('data', (text) => (err += text));
    child.on('error', reject);
    // Not 'close': a daemon that it starts may hold the pipes.
    child.on('exit', (code, how) => {
      commands.delete(child);
      resolve({ code: code === null ? how : code, out, err });
    });
  });
}

async function until(what, seconds, probe) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${seconds} s in vain for ${what}`);
    await sleep(50);
  }
}

/** Every process of the storm's: pid, arguments, and when it began (in the kernel's ticks, which tells reused pids apart). */
function processes() {
  const found = [];
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number)) {
    if (pid === process.pid) continue;
    try {
      const text = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (!text.includes(BASE)) continue;
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] !== 'Z') found.push({ pid, args: text.split('\0').filter(Boolean), began: Number(fields[19]) });
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

/** Signals this process and no other; false where it has ended. */
function signal(target, name) {
  if (!target || !processes().some((it) => it.pid === target.pid && it.began === target.began)) return false;
  try {
    process.kill(target.pid, name);
    return true;
  } catch {
    return false;
  }
}

/** The sidecar that serves this agent. A copy beside it, which exits again with 75, is younger. */
function sidecarOf(name) {
  const config = at('agents', name, 'config.json');
  const copies = processes().filter(({ args }) => path.basename(args[0]) === 'agentcom-sidecar' && args[1] === 'run' && args.includes(config));
  return copies.sort((a, b) => a.began - b.began)[0];
}

const sessions = () => processes().filter(({ args }) => args.includes(at('session.sh')));

class Hub {
  constructor() {
    this.ownEnds = [];
    this.stopping = false;
  }

  async start() {
    fs.mkdirSync(at('logs'), { recursive: true });
    await this.choosePort();
    this.spawn();
    await until('the hub to answer', 60, () => this.ask('GET', '/health'));
    this.token = run(path.join(BIN, 'agentcom-hub'), ['token', 'storm', '--admin', '--data', at('hub')]).trim().split(/\s+/).pop();
  }

  async choosePort() {
    for (let n = process.pid; ; n += 1) {
      this.port = PORTS.from + (n % PORTS.count);
      const free = await new Promise((resolve) => {
        const server = net.createServer().once('error', () => resolve(false));
        server.listen(this.port, '127.0.0.1', () => server.close(() => resolve(true)));
      });
      if (free) return;
    }
  }

  spawn() {
    const log = fs.openSync(at('logs', 'hub.log'), 'a');
    const args = ['serve', '--listen', `127.0.0.1:${this.port}`, '--data', at('hub')];
    this.process = spawn(path.join(BIN, 'agentcom-hub'), args, { cwd: BASE, stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.process.on('exit', (code, how) => {
      if (how !== 'SIGKILL') this.ownEnds.push(code === null ? how : `exit ${code}`);
      // An end of its own is not repeated for ever.
      if (!this.stopping && this.ownEnds.length < 10) this.spawn();
    });
  }

  kill() {
    return this.process.exitCode === null && this.process.kill('SIGKILL');
  }

  /** The answer's body where it is 2xx; null for any other, and while the hub is away. */
  async ask(method, where, body) {
    const headers = { 'content-type': 'application/json', ...(this.token && { authorization: `Bearer ${this.token}` }) };
    try {
      const options = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(5000) };
      const answer = await fetch(`http://127.0.0.1:${this.port}${where}`, options);
      const found = await answer.json();
      return answer.ok ? found : null;
    } catch {
      return null;
    }
  }

  /** For what is only read: asked again while the hub is away. */
  read(where) {
    return until(`the hub to answer ${where}`, 60, () => this.ask('GET', where));
  }

  async tasks() {
    const all = [];
    for (let cursor = ''; cursor !== null; ) {
      const page = await this.read(`/api/tasks${cursor && `?cursor=${encodeURIComponent(cursor)}`}`);
      all.push(...page.tasks);
      cursor = page.cursor;
    }
    return all;
  }
}

/** Between one agent and the hub. It knows since when the hub has known the agent, and until when. */
class Proxy {
  async start(hubPort) {
    this.links = new Set();
    this.known = [];
    const server = net.createServer((client) => this.link(client, net.connect(hubPort, '127.0.0.1')));
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.port = server.address().port;
  }

  link(client, hub) {
    const link = { client, hub, time: null };
    this.links.add(link);
    for (const [one, other] of [[client, hub], [hub, client]]) {
      one.setNoDelay(true);
      one.pipe(other);
      one.on('error', () => other.resetAndDestroy());
      one.on('close', () => {
        this.links.delete(link);
        if (link.time && !link.time.to) link.time.to = Date.now();
        other.destroySoon();
      });
    }
    hub.on('data', (bytes) => {
      // The hub's frames are not masked.
      if (link.time || !bytes.includes('"identified"')) return;
      link.time = { from: Date.now(), to: null };
      this.known.push(link.time);
    });
  }

  /** Breaks all connections; false where there is none. */
  cut(how) {
    const links = [...this.links];
    for (const socket of links.flatMap(({ client, hub }) => [client, hub])) socket[how]();
    return links.length > 0;
  }

  /** For how long the hub had not known the agent at this time, ms. */
  awayAt(time) {
    const until = ({ to }) => Math.min(to || time, time);
    return time - Math.max(0, ...this.known.filter(({ from }) => from <= time).map(until));
  }
}

// pm2 forgets how long its last wait was 4 s after an app's start here, not 30 s: the kills come so often that its waits would
// soon be 15 s each, and the storm a lull.
const pm2Env = { PM2_HOME: at('pm2'), EXP_BACKOFF_RESET_TIMER: '4000', PM2_WORKER_INTERVAL: '1000' };
const ecosystemEnv = { AGENTCOM_BIN_DIR: BIN, AGENTCOM_LOG_DIR: at('logs'), PM2_PROCESS_NAME: '', AGENTCOM_AGENTS: at('agents') };

async function pm2(...args) {
  const done = await runBeside(PM2, ['-s', ...args], { ...process.env, ...ecosystemEnv, ...pm2Env });
  if (done.code !== 0) throw new Error(`pm2 ${args.join(' ')} ended with ${done.code}:\n${done.out}${done.err}`);
}

const startAgents = () => pm2('start', path.join(TOP, 'ecosystem.config.js'));
const pm2Daemon = () => processes().find(({ args }) => args[0].includes('God Daemon'));

// $1 task, $2 description: how long the session works, s. The session is in nobody's reach, as an agent's own is.
const WAKE = `#!/bin/sh
generation=$(printf '%s' "$TASK_JSON" | sed -n 's/.*"generation"[: ]*\\([0-9]*\\).*/\\1/p')
setsid sh '${at('session.sh')}' "$1" "$generation" "$2" < /dev/null > /dev/null 2>&1 &
`;
const SESSION = `#!/bin/sh
echo "$1 $2 $(date +%s%3N)" >> wakes.log
: > "results/$1.started"
sleep "$3"
printf '{"status":"success"}' > "results/$1.part"
mv "results/$1.part" "results/$1.json"
`;

async function prepare(hub, names) {
  fs.writeFileSync(at('wake.sh'), WAKE);
  fs.writeFileSync(at('session.sh'), SESSION);
  const proxies = {};
  for (const name of names) {
    proxies[name] = new Proxy();
    await proxies[name].start(hub.port);
    const { token } = await hub.ask('POST', '/api/onboard/register', { agent_id: name });
    const config = {
      agent_id: name,
      token,
      hub_url: `ws://127.0.0.1:${proxies[name].port}/ws`,
      capabilities: ['code'],
      wake_command: `sh '${at('wake.sh')}' "\${TASK_ID}" "\${TASK_DESCRIPTION}"`,
      confirmation_timeout_ms: CONFIRMATION_MS,
      // The waits double with each connection that broke soon. The default's last, 60 s, is longer than the hub's grace: a
      // session begun anew after that would be rightly so, and the storm a lull.
      reconnect_max_ms: 5000,
      // The default refuses the fourth restart in a minute.
      restart_intensity: { max: 1000, window_ms: 60_000 },
    };
    fs.mkdirSync(at('agents', name, 'results'), { recursive: true });
    fs.writeFileSync(at('agents', name, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  }
  await startAgents();
  await until('all agents to be idle', 60, async () => {
    const { agents } = await hub.read('/api/agents');
    return agents.filter(({ fsm_state: state }) => state === 'idle').length === names.length;
  });
  await pm2('save');
  return proxies;
}

function build() {
  if (!BUILT) run('cargo', ['build', '--release', '--bins'], { stdio: 'inherit' });
  if (!fs.existsSync(PM2)) run('npm', ['ci'], { stdio: 'inherit' });
}

/** Ends everything that the storm started, pm2 first: it would start the others again. */
async function clear(hub, keep) {
  hub.stopping = true;
  for (const command of commands) command.kill('SIGKILL');
  // A daemon that pm2's command line has just begun is not known by its title yet.
  for (let [end, calm] = [Date.now() + 15_000, 0]; calm < 5 && Date.now() < end; await sleep(100)) {
    const left = processes();
    const daemons = left.filter(({ args }) => args[0].includes('God Daemon'));
    for (const one of daemons.length > 0 ? daemons : left) signal(one, 'SIGKILL');
    calm = left.length > 0 ? 0 : calm + 1;
  }
  if (!keep) fs.rmSync(BASE, { recursive: true, force: true });
}

module.exports = {
  ...{ BASE, BIN, CONFIRMATION_MS, Hub, at, build, clear, pm2, pm2Daemon, prepare },
  ...{ runBeside, sessions, sidecarOf, signal, sleep, startAgents },
};
