// One story's hub, agents and links between them: real processes in a folder of their own.

'use strict';

const { spawn } = require('child_process');
const fs = require('fs');
const http = require('http');
const net = require('net');
const os = require('os');
const path = require('path');
const { startNginx } = require('./nginx');

// The longest that anything may take here, on a slow and busy machine.
const PATIENCE_MS = 60_000;

// None of the caller's: neither its pm2 or systemd nor its settings.
function environment(folder) {
  const { PATH, LANG } = process.env;
  return { PATH, HOME: folder, ...(LANG && { LANG }) };
}

const exists = (file) => fs.existsSync(file);
const textOf = (file) => (exists(file) ? fs.readFileSync(file, 'utf8') : '');

function check(holds, claim, found) {
  if (holds) return;
  throw new Error(`it does not hold that ${claim}${found === undefined ? '' : `; found: ${JSON.stringify(found).slice(0, 1_000)}`}`);
}

// Those whose processes may run yet. Whatever ends this program ends them too, and their sessions with their folder.
const stages = new Set();
process.on('exit', () => {
  for (const stage of stages) {
    for (const { child, end } of stage.processes) if (end === undefined) child.kill('SIGKILL');
    fs.rmSync(stage.folder, { recursive: true, force: true, maxRetries: 5 });
  }
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

class Process {
  constructor(name, program, args, folder) {
    this.name = name;
    this.log = path.join(folder, `${name}.log`);
    this.from = textOf(this.log).length;
    const log = fs.openSync(this.log, 'a');
    this.child = spawn(program, args, { cwd: folder, env: environment(folder), stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.mayEnd = false;
    this.end = undefined;
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error) => resolve((this.end = error.message)));
      this.child.once('exit', (code, signal) => resolve((this.end = code === null ? signal : code)));
    });
  }

  /** What this process has written, without what an earlier one of its name wrote. */
  said() {
    return textOf(this.log).slice(this.from);
  }

  signal(signal) {
    this.mayEnd = true;
    this.child.kill(signal);
    return this.ended;
  }
}

/** A TCP proxy before the hub, one for each agent: its connections can be cut, and it can lead to another hub. */
class Link {
  constructor() {
    this.pairs = new Set();
    this.target = undefined;
    this.server = net.createServer((near) => {
      const far = this.target ? net.connect(this.target, '127.0.0.1') : undefined;
      const pair = [near, far].filter(Boolean);
      const end = () => {
        this.pairs.delete(pair);
        pair.forEach((socket) => socket.destroy());
      };
      pair.forEach((socket) => socket.on('error', end).on('close', end));
      if (!far) return end();
      this.pairs.add(pair);
      near.pipe(far).pipe(near);
    });
  }

  open() {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject).listen(0, '127.0.0.1', () => resolve(this.server.address().port));
    });
  }

  cut() {
    for (const pair of this.pairs) pair.forEach((socket) => socket.destroy());
  }

  close() {
    this.server.close();
    this.cut();
  }
}

class Hub {
  constructor(stage, program, port, process) {
    Object.assign(this, { stage, program, port, process });
  }

  request(method, where, body, token = this.stage.admin) {
    const headers = { connection: 'close', 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
    return new Promise((resolve, reject) => {
      const sent = http.request({ host: '127.0.0.1', port: this.port, method, path: where, headers, agent: false, timeout: 10_000 }, (answer) => {
        let text = '';
        answer.on('data', (part) => (text += part)).on('error', reject);
        answer.on('end', () => resolve({ status: answer.statusCode, body: JSON.parse(text) }));
      });
      sent.on('timeout', () => sent.destroy(new Error(`${method} ${where}: no answer`))).on('error', reject);
      sent.end(body && JSON.stringify(body));
    });
  }

  async expect(status, method, where, body, token) {
    const answer = await this.request(method, where, body, token);
    check(answer.status === status, `${method} ${where} is answered ${status}`, answer);
    return answer.body;
  }

  get(where) {
    return this.expect(200, 'GET', where);
  }

  async agents() {
    return (await this.get('/api/agents')).agents;
  }

  async agent(name) {
    return (await this.agents()).find((agent) => agent.agent_id === name);
  }

  task(id) {
    return this.get(`/api/tasks/${id}`);
  }

  async submit(task) {
    const { task_id: id } = await this.expect(201, 'POST', '/api/tasks', task);
    this.stage.tasks.push(id);
    return id;
  }

  async restarts(agent) {
    return (await this.get(`/api/admin/agents/${agent}/restarts`)).restarts;
  }

  async restart(agent, options = {}) {
    const answer = await this.expect(200, 'POST', `/api/admin/agents/${agent}/restart`, { reason: 'old_version', ...options });
    return answer.command_id;
  }

  /** Waits until the command is over; answers its record. */
  restarted(agent, command) {
    return this.stage.until(`the end of restart ${command}`, async () => {
      const record = (await this.restarts(agent)).find((it) => it.command_id === command);
      return record && !record.open && record;
    });
  }

  completed(id) {
    return this.stage.until(`${id} to be completed`, async () => {
      const task = await this.task(id);
      check(task.status !== 'dead_letter', `${id} is completed`, task);
      return task.status === 'completed' && task;
    });
  }
}

class Agent {
  constructor(stage, name, version) {
    Object.assign(this, { stage, name, folder: stage.at(name), link: new Link() });
    fs.mkdirSync(this.at('results'), { recursive: true });
    this.install(version);
  }

  at(...names) {
    return path.join(this.folder, ...names);
  }

  get program() {
    return this.at('agentcom-sidecar');
  }

  /** Puts a version's program in the place of the one that may run: as an operator does, by `mv`. */
  install(version) {
    fs.copyFileSync(this.stage.programs[version].sidecar, this.at('next'));
    fs.renameSync(this.at('next'), this.program);
  }

  /** Runs `onboard`, and answers how it ended. */
  async askToOnboard() {
    const port = await this.link.open();
    const flags = ['onboard', '--hub', `http://127.0.0.1:${port}`, '--name', this.name, '--config', this.at('config.json')];
    return this.stage.command(this.program, flags);
  }

  async onboard() {
    const done = await this.askToOnboard();
    check(done.code === 0, `${this.name} is onboarded`, done);
    const script = path.join(this.stage.top, 'tests', 'support', 'agent.sh');
    const config = {
      ...JSON.parse(textOf(this.at('config.json'))),
      wake_command: `sh '${script}' '${this.folder}' "\${TASK_ID}" "\${TASK_DESCRIPTION}"`,
      log_file: './sidecar.log',
      log_level: 'debug',
      restart_intensity: { max: 50, window_ms: 60_000 },
      reconnect_min_ms: 200,
      reconnect_max_ms: 1_000,
    };
    fs.writeFileSync(this.at('config.json'), `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
    this.token = config.token;
  }

  start() {
    this.process = this.stage.process(this.name, this.program, ['run', '--config', this.at('config.json')]);
  }

  kill() {
    return this.process.signal('SIGKILL');
  }

  /** The journal, as it is on disk. */
  journal() {
    return JSON.parse(textOf(this.at('queue.json')) || '{}');
  }

  works(id) {
    const { active } = this.journal();
    return Boolean(active && active.task_id === id && active.sidecar.stage.name === 'running');
  }

  wakes(id) {
    return textOf(this.at('runs.log')).split('\n').filter((line) => line.startsWith(`${id} `) && line.endsWith(' woken')).length;
  }

  /** Lets the session of a task with `run=hold` finish. */
  release(id) {
    fs.writeFileSync(this.at(`go.run.${id}`), '');
  }
}

class Stage {
  constructor(top, programs) {
    Object.assign(this, { top, programs, folder: fs.mkdtempSync(path.join(os.tmpdir(), 'old-version-')), agents: [], tasks: [], processes: [] });
    // Leads from a proxy to the hub, where the agents reach it through one.
    this.behind = undefined;
    stages.add(this);
  }

  at(...names) {
    return path.join(this.folder, ...names);
  }

  /** Looks until `probe` finds something; fails at once when a process of the story has ended by itself. */
  async until(what, probe) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = await probe();
      if (found) return found;
      for (const { name, end: code, mayEnd } of this.processes) check(code === undefined || mayEnd, `${name} runs on, while this waits for ${what}`, code);
      check(Date.now() < end, `${what}, within ${PATIENCE_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  process(name, program, args) {
    const made = new Process(name, program, args, this.folder);
    this.processes.push(made);
    return made;
  }

  /** Runs a command to its end. */
  async command(program, args) {
    const process = this.process('command', program, args);
    process.mayEnd = true;
    const code = await this.until(`the end of ${path.basename(program)} ${args[0]}`, () => (process.end === undefined ? false : { code: process.end }));
    return { ...code, said: process.said() };
  }

  get data() {
    return this.at('hub');
  }

  /** Starts a hub on the story's data folder, on a port of its own. The agents' links do not lead there yet. */
  async startHub(version, flags = []) {
    const program = this.programs[version].hub;
    const process = this.process('hub', program, ['serve', '--listen', '127.0.0.1:0', '--log-level', 'debug', '--data', this.data, ...flags]);
    const port = await this.until('the hub to listen', () => {
      const line = process.said().split('\n').find((it) => it.includes('"listening"'));
      return line && /127\.0\.0\.1:(\d+)/.exec(line)[1];
    });
    this.hub = new Hub(this, program, Number(port), process);
    if (this.behind) this.behind.target = this.hub.port;
    if (!this.admin) {
      const made = await this.command(program, ['token', 'ops', '--admin', '--data', this.data]);
      check(made.code === 0, 'a token is made', made.code);
      this.admin = made.said.trim().split(/\s+/).pop();
    }
    return this.hub;
  }

  /** Starts nginx before the hub; from now on agents reach the hub through it. Answers the hub as it is there. */
  async startNginx(headers) {
    this.behind = new Link();
    this.front = await startNginx(this, await this.behind.open(), headers);
    this.behind.target = this.hub.port;
    return new Hub(this, undefined, this.front);
  }

  /** The port by which agents reach the hub. */
  get port() {
    return this.front || this.hub.port;
  }

  connect() {
    for (const { link } of this.agents) link.target = this.port;
  }

  async stopHub(signal) {
    for (const { link } of this.agents) link.target = undefined;
    const end = await this.hub.process.signal(signal);
    check(end === (signal === 'SIGKILL' ? signal : 0), `the hub ends by ${signal}`, end);
  }

  /** Makes an agent's folder and its link; it is not onboarded yet. */
  stranger(name, version) {
    const agent = new Agent(this, name, version);
    this.agents.push(agent);
    agent.link.target = this.port;
    return agent;
  }

  /** Onboards and starts an agent. */
  async agent(name, version) {
    const agent = this.stranger(name, version);
    await agent.onboard();
    agent.start();
    await this.idle(agent);
    return agent;
  }

  idle(agent) {
    return this.until(`${agent.name} to be idle at the hub`, async () => {
      const known = await this.hub.agent(agent.name);
      return known && known.fsm_state === 'idle';
    });
  }

  /** Waits until the agent is connected, and not as it was then. */
  connectedAgain(agent, before) {
    return this.until(`${agent.name} to be connected again`, async () => {
      const known = await this.hub.agent(agent.name);
      return known && known.connected_at && (!before || known.connected_at !== before.connected_at);
    });
  }

  /** Submits a task whose session waits to be released; answers it with the agent that is at work on it. */
  async holding(task = {}) {
    const id = await this.hub.submit({ description: 'run=hold', ...task });
    const holder = await this.until(`an agent to be at work on ${id}`, () => this.agents.find((agent) => agent.works(id)));
    return { id, holder };
  }

  release(id) {
    for (const agent of this.agents) agent.release(id);
  }

  wakes(id) {
    return this.agents.reduce((sum, agent) => sum + agent.wakes(id), 0);
  }

  /** The task is done and was woken once (or, where the hub may give it to another agent, at least once). */
  async done(id, { wakes = 'one' } = {}) {
    const task = await this.hub.completed(id);
    const found = this.wakes(id);
    const where = this.agents.map((agent) => `${agent.name} ${agent.wakes(id)}`).join(', ');
    check(wakes === 'one' ? found === 1 : found >= 1, `${id} is completed with ${wakes} wake`, where);
    return task;
  }

  /** Each agent is idle, and does a task of its own. */
  async nobodyIsStuck() {
    for (const agent of this.agents) {
      await this.idle(agent);
      const id = await this.hub.submit({ description: 'run=0', assign_to: agent.name });
      await this.done(id);
      check(agent.wakes(id) === 1, `${agent.name} does a task of its own`, this.wakes(id));
    }
    for (const agent of this.agents) await this.idle(agent);
  }

  /** Ends everything; the folder stays where `keep` says so. */
  async clear(keep) {
    for (const id of this.tasks) this.release(id);
    for (const process of this.processes) if (process.end === undefined) await process.signal('SIGKILL');
    for (const { link } of this.agents) link.close();
    if (this.behind) this.behind.close();
    stages.delete(this);
    if (!keep) fs.rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

module.exports = { Stage, check };
