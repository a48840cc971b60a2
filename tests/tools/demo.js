#!/usr/bin/env node
// The whole story on this machine: hub and sidecar under a pm2 of their own, a task, a restart commanded while it works,
// and what that cost. Every time and count below is read from the hub's ledger or from pm2; nothing is assumed.
//
//   npm run demo         builds, starts (or starts anew), tells the story, leaves everything running
//   npm run demo:stop    stops everything; the data stays in .demo/ until you delete it

'use strict';

const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const { TOP, Trouble, binDir, checkNode, prepare, run, say, stopOnSignals, trouble } = require('./demo_build');

const DEMO = path.join(TOP, '.demo');
const AGENT_DIR = path.join(DEMO, 'agent');
const HUB_DATA = path.join(DEMO, 'hub-data');
const LOGS = path.join(DEMO, 'logs');
const PM2 = path.join(TOP, 'node_modules', '.bin', 'pm2');
const HUB_LOGS = ['agentcom-hub.out.log', 'agentcom-hub.err.log'].map((name) => path.join(LOGS, name));
const SIDECAR_LOGS = [path.join(AGENT_DIR, 'sidecar.log'), path.join(LOGS, 'agentcom-sidecar.err.log')];
const AGENT = 'demo-agent';
const IDLE_RESTARTS = 7;
// The Node sidecar at its own hub, under pm2, median of 7: restart_sidecar received -> identified again.
const NODE_SIDECAR_MS = 2726;

// pm2's sockets live in PM2_HOME, and a unix socket's path has at most 108 bytes.
function pm2Home() {
  const beside = path.join(DEMO, 'pm2');
  if (path.join(beside, 'interactor.sock').length < 100) return beside;
  const user = os.userInfo().uid;
  return path.join(os.tmpdir(), `agentcom-demo-${user}-${Buffer.from(TOP).toString('base64url').slice(-12)}`);
}

function pm2(args, env = {}) {
  const done = run(PM2, [...args, '-s'], { env: { ...process.env, PM2_HOME: pm2Home(), ...env } });
  if (done.status !== 0) {
    throw trouble(`pm2 ${args.join(' ')} failed:\n${done.stdout}${done.stderr}`, `Look into ${pm2Home()}/pm2.log.`);
  }
  return done.stdout;
}

/** What pm2 itself says of an app. */
function pm2App(name) {
  const text = pm2(['jlist']);
  const app = JSON.parse(text.slice(text.indexOf('['))).find((it) => it.name === name);
  return app && { pid: app.pid, restarts: app.pm2_env.restart_time, status: app.pm2_env.status };
}

/** The last lines of each of these logs that has any. */
function tails(files) {
  const there = files.filter((file) => fs.existsSync(file) && fs.statSync(file).size > 0);
  return there.map((file) => `${file}:\n${fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(-15).join('\n')}`).join('\n');
}

/** Looks until `probe` answers something, for at most `seconds`. */
async function until(what, seconds, probe, logs) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false && found !== null) return found;
    if (Date.now() > end) {
      throw trouble(`Waited ${seconds} s in vain for ${what}.\n${tails(logs)}`, `The logs are in ${LOGS} and ${AGENT_DIR}; "npm run demo" starts anew.`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function portIsFree(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => {
      const found = server.address().port;
      server.close(() => resolve(found));
    });
  });
}

async function choosePort() {
  const file = path.join(DEMO, 'port');
  const last = fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : 4000;
  let port = await portIsFree(last);
  if (!port) {
    port = await portIsFree(0);
    say(`Port ${last} is taken by another program; the hub listens on ${port} instead.`);
  }
  fs.writeFileSync(file, String(port));
  return port;
}

class Hub {
  constructor(port) {
    this.url = `http://127.0.0.1:${port}`;
    this.token = undefined;
  }

  async call(method, where, body) {
    const response = await fetch(this.url + where, {
      method,
      headers: { 'content-type': 'application/json', ...(this.token && { authorization: `Bearer ${this.token}` }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(5000),
    });
    return { status: response.status, body: await response.json() };
  }

  async expect(status, method, where, body) {
    const answer = await this.call(method, where, body);
    if (answer.status !== status) {
      throw trouble(`${method} ${where} answered ${answer.status}: ${JSON.stringify(answer.body)}`, `The hub's log is in ${LOGS}.`);
    }
    return answer.body;
  }

  /** `agentcom-hub token` of an agent: the last word it prints. */
  static newToken(name, ...flags) {
    const done = run(path.join(binDir(), 'agentcom-hub'), ['token', name, ...flags, '--data', HUB_DATA]);
    if (done.status !== 0) throw trouble(`agentcom-hub token ${name} failed: ${done.stderr}`, 'The message says why.');
    return done.stdout.trim().split(/\s+/).pop();
  }

  async agent() {
    const { agents } = await this.expect(200, 'GET', '/api/agents');
    return agents.find((agent) => agent.agent_id === AGENT);
  }

  async restart(commandId) {
    const { restarts } = await this.expect(200, 'GET', `/api/admin/agents/${AGENT}/restarts`);
    return restarts.find((restart) => restart.command_id === commandId);
  }
}

function writePrivate(file, text) {
  fs.rmSync(file, { force: true });
  fs.writeFileSync(file, text, { mode: 0o600 });
}

async function registerAgent(hub, port) {
  const file = path.join(AGENT_DIR, 'config.json');
  const old = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
  let token = old.token;
  if (!token) {
    const { status, body } = await hub.call('POST', '/api/onboard/register', { agent_id: AGENT });
    // 409: registered by an earlier run whose config is gone.
    token = status === 201 ? body.token : Hub.newToken(AGENT, '--replace');
  }
  const script = path.join(TOP, 'tests', 'support', 'agent.sh');
  const config = {
    agent_id: AGENT,
    token,
    hub_url: `ws://127.0.0.1:${port}/ws`,
    hub_api_url: hub.url,
    repo_dir: AGENT_DIR,
    reviewer: 'nobody',
    capabilities: ['code'],
    // Steered by the task's description: "start=0.2 run=3" is an agent that starts at once and works for 3 s.
    wake_command: `sh '${script}' '${AGENT_DIR}' "\${TASK_ID}" "\${TASK_DESCRIPTION}"`,
    confirmation_timeout_ms: 30000,
    results_dir: './results',
    log_file: './sidecar.log',
    log_level: 'info',
    // More commanded restarts in a minute than anybody should want; the default refuses the fourth.
    restart_intensity: { max: 50, window_ms: 60000 },
  };
  writePrivate(file, `${JSON.stringify(config, null, 2)}\n`);
}

async function start(port) {
  const env = {
    AGENTCOM_BIN_DIR: binDir(),
    AGENTCOM_CONFIG: path.join(AGENT_DIR, 'config.json'),
    AGENTCOM_HUB_LISTEN: `127.0.0.1:${port}`,
    AGENTCOM_HUB_DATA: HUB_DATA,
    AGENTCOM_LOG_DIR: LOGS,
    AGENTCOM_AGENTS: '',
  };
  const ecosystem = path.join(TOP, 'ecosystem.config.js');
  pm2(['start', ecosystem, '--only', 'agentcom-hub'], env);
  const hub = new Hub(port);
  const healthy = () => hub.call('GET', '/health').then(({ status }) => status === 200, () => false);
  await until('the hub to answer', 20, healthy, HUB_LOGS);
  const tokenFile = path.join(DEMO, 'admin-token');
  hub.token = fs.existsSync(tokenFile) ? fs.readFileSync(tokenFile, 'utf8').trim() : undefined;
  if ((await hub.call('GET', '/api/tasks')).status !== 200) {
    // One that this hub does not know any more.
    fs.rmSync(tokenFile, { force: true });
    Hub.newToken('demo', '--admin', '--out', tokenFile);
    hub.token = fs.readFileSync(tokenFile, 'utf8').trim();
  }
  await registerAgent(hub, port);
  pm2(['start', ecosystem, '--only', 'agentcom-sidecar'], env);
  await idle(hub);
  return hub;
}

function idle(hub) {
  const is = async () => {
    const agent = await hub.agent();
    return agent && agent.fsm_state === 'idle';
  };
  return until(`${AGENT} to be connected and idle`, 20, is, SIDECAR_LOGS);
}

const STORY = {
  commanded: 'the hub commands the restart, and gives this agent no new task from here on',
  delivered: 'the sidecar has the command',
  accepted: 'the sidecar accepts it, and will restart once its task is done',
  draining: 'the sidecar sends agent_restarting, its final message',
  exiting: 'the sidecar has closed its connection',
  back: 'the sidecar is connected again, as a new process',
};

/** Follows one command to its end and tells each step as the ledger records it. */
async function follow(hub, commandId, task) {
  let told = 0;
  let done = false;
  return until(`restart ${commandId} to end`, 60, async () => {
    const restart = await hub.restart(commandId);
    const line = (at, text) => say(`  ${String(at - restart.commanded_at).padStart(6)} ms  ${text}`);
    const { history } = await hub.expect(200, 'GET', `/api/tasks/${task}`);
    const completed = history.find((entry) => entry.event === 'completed');
    for (const step of restart.steps.slice(told)) {
      if (completed && !done && completed.timestamp <= step.at_ms) {
        line(completed.timestamp, 'the hub has the result of the task');
        done = true;
      }
      line(step.at_ms, STORY[step.step] || step.step);
      told += 1;
    }
    return restart.open ? undefined : restart;
  }, SIDECAR_LOGS);
}

function check(holds, claim, found) {
  if (!holds) throw trouble(`Should hold and does not: ${claim}. Found: ${JSON.stringify(found)}`, `The logs are in ${LOGS} and ${AGENT_DIR}.`);
}

async function restartWhileWorking(hub) {
  const before = pm2App('agentcom-sidecar');
  const { task_id: task } = await hub.expect(201, 'POST', '/api/tasks', { description: 'start=0.2 run=3' });
  await until('the agent to start', 20, () => fs.existsSync(path.join(AGENT_DIR, 'results', `${task}.started`)), SIDECAR_LOGS);
  say();
  say(`The agent works on ${task}, for 3 s. The sidecar is process ${before.pid}. Meanwhile a restart is commanded:`);
  const command = await hub.expect(200, 'POST', `/api/admin/agents/${AGENT}/restart`, { reason: 'demo: while working' });
  const restart = await follow(hub, command.command_id, task);
  check(restart.state === 'back', 'the command ends in "back"', restart);
  const after = pm2App('agentcom-sidecar');
  const { status } = await hub.expect(200, 'GET', `/api/tasks/${task}`);
  const runs = fs.readFileSync(path.join(AGENT_DIR, 'runs.log'), 'utf8').split('\n').filter((line) => line.startsWith(`${task} `) && line.endsWith('started'));
  check(status === 'completed' && runs.length === 1, 'the task is completed and ran once', { status, runs });
  check(after.restarts === before.restarts + 1 && after.pid !== before.pid, 'pm2 has restarted it once', { before, after });
  say(`  The task is completed, and ran once. pm2 counts one restart more (${before.restarts} -> ${after.restarts}); process ${before.pid} became ${after.pid}.`);
  say(`  The hub was without the sidecar for ${restart.gap_ms} ms.`);
}

/** From the command's delivery to the return, ms, as the hub's ledger has it. */
async function idleRestart(hub) {
  await idle(hub);
  const command = await hub.expect(200, 'POST', `/api/admin/agents/${AGENT}/restart`, { reason: 'demo: while idle' });
  const restart = await until('the restart to end', 30, async () => {
    const found = await hub.restart(command.command_id);
    return found.open ? undefined : found;
  }, SIDECAR_LOGS);
  check(restart.state === 'back', 'the command ends in "back"', restart);
  const at = (name) => restart.steps.find((step) => step.step === name).at_ms;
  return at('back') - at('delivered');
}

async function idleRestarts(hub) {
  const before = pm2App('agentcom-sidecar');
  const gaps = [];
  for (let i = 0; i < IDLE_RESTARTS; i += 1) gaps.push(await idleRestart(hub));
  const after = pm2App('agentcom-sidecar');
  check(after.restarts === before.restarts + IDLE_RESTARTS, `pm2 has restarted it ${IDLE_RESTARTS} times`, { before, after });
  const median = [...gaps].sort((a, b) => a - b)[(IDLE_RESTARTS - 1) / 2];
  say();
  say(`${IDLE_RESTARTS} restarts of the idle sidecar, each from the command's arrival until it is connected again: ${gaps.join(', ')} ms.`);
  say(`  Median ${median} ms. AgentCom's Node sidecar takes ${NODE_SIDECAR_MS.toLocaleString('en')} ms (${Math.round(NODE_SIDECAR_MS / median)} times as long; "npm run bench" measures both).`);
  const memory = /VmRSS:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${after.pid}/status`, 'utf8'));
  if (memory) say(`  The idle sidecar holds ${(memory[1] / 1024).toFixed(1)} MB of memory, the Node sidecar 56.5 MB.`);
}

function howToGoOn(hub) {
  const shown = (file) => path.relative(process.cwd(), file) || file;
  const bin = shown(binDir());
  say();
  say('Hub and sidecar are left running. Look at them:');
  say(`  ${hub.url}/dashboard            in a browser; the token to sign in with is in .demo/admin-token`);
  say(`  ${path.join(bin, 'agentcom-hub')} restarts --data .demo/hub-data`);
  say(`  ${path.join(bin, 'agentcom-sidecar')} status --config .demo/agent/config.json`);
  say(`  PM2_HOME=${shown(pm2Home())} npx pm2 ls`);
  say('Stop them:');
  say('  npm run demo:stop');
}

const BEGINNING = `The demo starts a hub and a sidecar on this machine, gives the agent a task, and restarts the sidecar while it works.
It builds both programs first: some minutes the first time, seconds after that. The demo itself takes half a minute.
Everything is kept in this folder (target/, node_modules/, .demo/).
`;
const STOPPED = 'Stopped. Hub and sidecar may be running: "npm run demo:stop" stops them, "npm run demo" starts anew.';

async function main() {
  checkNode();
  if (process.argv[2] === 'stop') {
    if (fs.existsSync(PM2)) pm2(['kill']);
    say('Stopped. Tokens, tasks and logs are still in .demo/; delete that folder to forget them.');
    return;
  }
  stopOnSignals(STOPPED);
  say(BEGINNING);
  await prepare();
  for (const folder of [path.join(AGENT_DIR, 'results'), HUB_DATA, LOGS]) fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  say('Starting hub and sidecar under a pm2 of their own ...');
  // An earlier demo's hub would hold the port.
  for (const name of ['agentcom-sidecar', 'agentcom-hub']) if (pm2App(name)) pm2(['delete', name]);
  const hub = await start(await choosePort());
  say(`  The hub listens on ${hub.url}, and the sidecar of the agent "${AGENT}" is connected to it.`);
  await restartWhileWorking(hub);
  await idleRestarts(hub);
  howToGoOn(hub);
}

main().catch((error) => {
  // After what a signal has to say: it may be the reason.
  setImmediate(() => {
    process.stderr.write(`\n${error instanceof Trouble ? error.message : error.stack}\n`);
    process.exitCode = 1;
  });
});
