#!/usr/bin/env node
// What a commanded restart costs under a real pm2, and what the idle sidecar holds: release binaries, the real
// ecosystem.config.js, hub and sidecar beside each other, everything in a folder of its own that is gone afterwards.
//
//   npm run bench              builds, measures 21 restarts, judges by the bars (exit 1 when one is missed)
//   npm run bench -- 50        as many restarts as you say, at least 15
//
// A restart is measured in the sidecar's own log: from the line that says that `restart_sidecar` was heard (`restart_commanded`) to the next
// run's line that says `identified`. The gap is its part from the old process's last line on. pm2's floor is measured the
// same way: an app that does nothing but write the time and exit 0, under the same settings. Each restart has a restart
// of that app beside it, and the gap is judged by the median of the pairs' ratios: what slows the machine down for a
// while slows both.
//
// Private memory is what one more agent on the machine costs: without the program's own pages, which all agents share.

'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { account, spawnedAt, table } = require('./bench_account');

const TOP = path.resolve(__dirname, '..', '..');
const BIN = path.resolve(process.env.CARGO_TARGET_DIR || path.join(TOP, 'target'), 'release');
const PM2 = path.join(TOP, 'node_modules', '.bin', 'pm2');
const AGENT = 'bench-agent';
const RESTARTS = Math.max(15, Number(process.argv[2]) || 21);
// The restarts whose steps are told apart.
const ACCOUNTED = 15;
// The Node sidecar at its own hub, under pm2, on this class of machine: median of 7, and its idle memory.
const NODE = { gapMs: 2726, rssMb: 56.5, pssMb: 16 };
const BARS = { gapMs: 100, toFloor: 1.2, rssMb: 8, privateMb: 0.6, binaryMb: 5 };
const MB = 1024 * 1024;

// Short: pm2's sockets live in it, and a unix socket's path has at most 108 bytes.
const BASE = fs.mkdtempSync(path.join(os.tmpdir(), 'acb-'));
const at = (...names) => path.join(BASE, ...names);

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: TOP, encoding: 'utf8', ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.status}:\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

function pm2(args, env = {}) {
  // pm2 forgets how long the last wait was once an app has lived for 30 s, and looks every 30 s. Here it does so at
  // once, so that each restart is what a commanded restart is: the first in a while.
  const soon = { EXP_BACKOFF_RESET_TIMER: '50', PM2_WORKER_INTERVAL: '200' };
  return run(PM2, [...args, '-s'], { env: { ...process.env, PM2_HOME: at('pm2'), PM2_PROCESS_NAME: '', ...soon, ...env } });
}

function app(name) {
  const text = pm2(['jlist']);
  return JSON.parse(text.slice(text.indexOf('['))).find((it) => it.name === name);
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, probe) {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false && found !== null) return found;
    if (Date.now() > end) throw new Error(`waited a minute in vain for ${what}`);
    await sleep(5);
  }
}

/** The lines of the sidecar's log, as objects with their time in ms (to the microsecond). */
function log() {
  const file = at('agent', 'sidecar.log');
  if (!fs.existsSync(file)) return [];
  const lines = fs.readFileSync(file, 'utf8').split('\n').filter((line) => line.endsWith('}'));
  return lines.map((line) => {
    const it = JSON.parse(line);
    return { ...it, ms: Date.parse(`${it.timestamp.slice(0, 19)}Z`) + Number(`0.${it.timestamp.slice(20, 26)}`) * 1000 };
  });
}

const heard = (what) => log().filter((line) => line.said === what);

class Hub {
  static async start() {
    const data = at('hub');
    const env = { AGENTCOM_BIN_DIR: BIN, AGENTCOM_HUB_LISTEN: '127.0.0.1:0', AGENTCOM_HUB_DATA: data, AGENTCOM_LOG_DIR: at('logs'), AGENTCOM_AGENTS: '' };
    pm2(['start', path.join(TOP, 'ecosystem.config.js'), '--only', 'agentcom-hub'], env);
    const hub = new Hub();
    hub.address = await until('the hub to listen', () => {
      const files = ['agentcom-hub.out.log', 'agentcom-hub.err.log'].map((name) => at('logs', name)).filter((file) => fs.existsSync(file));
      const found = files.map((file) => /127\.0\.0\.1:([1-9]\d*)/.exec(fs.readFileSync(file, 'utf8'))).find(Boolean);
      return found && found[0];
    });
    hub.token = run(path.join(BIN, 'agentcom-hub'), ['token', 'bench', '--admin', '--data', data]).trim().split(/\s+/).pop();
    return hub;
  }

  async call(method, where, body) {
    const response = await fetch(`http://${this.address}${where}`, {
      method,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.token}` },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${where} answered ${response.status}: ${await response.text()}`);
    return response.json();
  }
}

function configure(hub, token, level) {
  const config = {
    agent_id: AGENT,
    token,
    hub_url: `ws://${hub.address}/ws`,
    capabilities: ['code'],
    wake_command: 'true',
    log_level: level,
    restart_intensity: { max: 1000, window_ms: 60000 },
  };
  fs.writeFileSync(at('agent', 'config.json'), JSON.stringify(config), { mode: 0o600 });
}

/** Starts it under pm2, and returns its token. */
async function startSidecar(hub) {
  const { token } = await hub.call('POST', '/api/onboard/register', { agent_id: AGENT });
  fs.mkdirSync(at('agent', 'results'), { recursive: true });
  configure(hub, token, 'info');
  const env = { AGENTCOM_BIN_DIR: BIN, AGENTCOM_CONFIG: at('agent', 'config.json'), AGENTCOM_NAME: AGENT, AGENTCOM_LOG_DIR: at('logs'), AGENTCOM_AGENTS: '' };
  pm2(['start', path.join(TOP, 'ecosystem.config.js'), '--only', AGENT], env);
  await until('the sidecar to be identified', () => heard('identified').length === 1);
  return token;
}

/** An idle restart: the times of its steps, ms from the command, and the lines of the gap. */
async function restart(hub, nth) {
  // Long enough for pm2 to have forgotten the last one.
  await sleep(700);
  const { command_id: id } = await hub.call('POST', `/api/admin/agents/${AGENT}/restart`, { reason: `bench ${nth}` });
  await until(`restart ${nth}`, () => heard('identified').length === nth + 1);
  await until('the hub to call it back', async () => {
    const { restarts } = await hub.call('GET', `/api/admin/agents/${AGENT}/restarts`);
    return restarts.find((it) => it.command_id === id).state === 'back';
  });
  const lines = log();
  const command = lines.filter((line) => line.said === 'restart_commanded')[nth - 1].ms;
  const after = lines.filter((line) => line.ms > command);
  const first = (is) => after.find(is).ms - command;
  const end = first((line) => line.message === 'the sidecar ends');
  const back = first((line) => line.said === 'identified');
  const gap = after.filter((line) => line.ms >= command + end && line.ms <= command + back);
  return { end, start: first((line) => line.message === 'the sidecar starts'), back, gap: back - end, lines: gap };
}

/** The app that does nothing: it says when it began and when it ends, and ends when it is told to. */
class Floor {
  constructor() {
    const stamp = 'date +%s%N >> stamps';
    fs.writeFileSync(at('floor.sh'), `#!/bin/sh\n${stamp}\necho "$pm_uptime" >> spawned\nread go < go\n${stamp}\nexit 0\n`, { mode: 0o755 });
    run('mkfifo', [at('go')]);
    const settings = require(path.join(TOP, 'ecosystem.config.js')).apps.find((it) => it.name === 'agentcom-sidecar');
    const app = { ...settings, name: 'floor', script: at('floor.sh'), args: [], cwd: BASE, out_file: at('logs', 'floor'), error_file: at('logs', 'floor') };
    fs.writeFileSync(at('floor.json'), JSON.stringify({ apps: [app] }));
    pm2(['start', at('floor.json')]);
    this.runs = 1;
  }

  read(name) {
    return fs.existsSync(at(name)) ? fs.readFileSync(at(name), 'utf8').trim().split('\n') : [];
  }

  /** From its last word to its next run's first: what pm2 takes for itself, ms; and until pm2 starts that run. */
  async restart() {
    await sleep(700);
    await until('the floor to run', () => this.read('spawned').length === this.runs);
    fs.writeFileSync(at('go'), 'go\n');
    this.runs += 1;
    await until('the floor again', () => this.read('spawned').length === this.runs);
    const [ended, began] = this.read('stamps').slice(-2).map((ns) => Number(BigInt(ns) / 1000n) / 1000);
    return { gap: began - ended, spawn: Number(this.read('spawned').pop()) + 0.5 - ended };
  }
}

function memory(pid) {
  const kb = (file, key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(fs.readFileSync(`/proc/${pid}/${file}`, 'utf8'))[1]);
  return { rss: (kb('status', 'VmRSS') * 1024) / MB, pss: (kb('smaps_rollup', 'Pss') * 1024) / MB, own: privateMemory(pid) };
}

/** The memory that the process shares with no other agent, MB: of the program's file only the pages that it changed. */
function privateMemory(pid) {
  const program = fs.readlinkSync(`/proc/${pid}/exe`);
  const mappings = fs.readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const kb = mappings.map((mapping) => {
    const field = (name) => Number((new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(mapping) || [0, 0])[1]);
    return mapping.split('\n')[0].endsWith(program) ? field('Anonymous') : field('Private_Clean') + field('Private_Dirty');
  });
  return (kb.reduce((sum, it) => sum + it, 0) * 1024) / MB;
}

function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const nth = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { median: nth(0.5), p90: nth(0.9), min: sorted[0], max: sorted[sorted.length - 1] };
}

const say = (line = '') => process.stdout.write(`${line}\n`);
const ms = (value) => `${value.toFixed(1).padStart(7)} ms`;
const row = (what, { median, p90, min, max }) => say(`  ${what.padEnd(44)} median ${ms(median)}   p90 ${ms(p90)}   min ${ms(min)}   max ${ms(max)}`);

/** Pairs of a restart of the sidecar and one of the app that does nothing, in turns. */
async function measurePairs(hub, floor) {
  const pairs = [];
  for (let nth = 1; nth <= RESTARTS; nth += 1) {
    const early = nth % 2 ? undefined : await floor.restart();
    const sidecar = await restart(hub, nth);
    pairs.push({ sidecar, floor: early || (await floor.restart()) });
  }
  return pairs;
}

/** The steps of some more restarts, with the log at `debug`; not among those that are judged. */
async function measureSteps(hub, token) {
  configure(hub, token, 'debug');
  await restart(hub, RESTARTS + 1);
  const accounts = [];
  for (let nth = 2; nth <= 1 + ACCOUNTED; nth += 1) {
    const { lines } = await restart(hub, RESTARTS + nth);
    accounts.push(account(lines, spawnedAt(lines.find((line) => line.message === 'the sidecar starts').pid)));
  }
  return accounts;
}

/** Prints what was measured, and returns what missed its bar. */
function report(pairs, accounts, held) {
  const of = (pick) => spread(pairs.map(pick));
  const [back, gap, floor] = [of((it) => it.sidecar.back), of((it) => it.sidecar.gap), of((it) => it.floor.gap)];
  const toFloor = of((it) => it.sidecar.gap / it.floor.gap);
  const binary = fs.statSync(path.join(BIN, 'agentcom-sidecar')).size / MB;
  say(`${RESTARTS} commanded restarts, idle, under pm2 ${require(path.join(TOP, 'node_modules', 'pm2', 'package.json')).version}:`);
  row('restart_sidecar heard -> identified again', back);
  row('  of it: goodbye and exit', of((it) => it.sidecar.end));
  row('  of it: pm2, until the next run speaks', of((it) => it.sidecar.start - it.sidecar.end));
  row('  of it: dial, handshake, identified', of((it) => it.sidecar.back - it.sidecar.start));
  row('the gap: exit -> identified', gap);
  row("pm2's floor: an app that only exits 0", floor);
  row('  of it: until pm2 starts the next run', of((it) => it.floor.spawn));
  say(`  The gap is ${toFloor.median.toFixed(2)} times the floor (median of the pairs; p90 ${toFloor.p90.toFixed(2)}, min ${toFloor.min.toFixed(2)}).`);
  say(`  The Node sidecar: ${NODE.gapMs} ms, ${(NODE.gapMs / back.median).toFixed(0)} times as long.`);
  say(`Where the gap goes, medians of ${ACCOUNTED} more with the log at debug:`);
  table(accounts, (values) => spread(values).median, say);
  say(`Idle memory: RSS ${held.rss.toFixed(1)} MB (Node ${NODE.rssMb}), PSS ${held.pss.toFixed(1)} MB (Node ${NODE.pssMb}), private ${held.own.toFixed(2)} MB.`);
  say(`Binary: ${binary.toFixed(2)} MB.`);
  return [
    back.median >= BARS.gapMs && `the median restart is not under ${BARS.gapMs} ms`,
    toFloor.median > BARS.toFloor && `the gap is more than ${BARS.toFloor} times pm2's floor`,
    held.rss >= BARS.rssMb && `the resident memory is not under ${BARS.rssMb} MB`,
    held.own > BARS.privateMb && `the private memory is more than ${BARS.privateMb} MB`,
    binary > BARS.binaryMb && `the binary is larger than ${BARS.binaryMb} MB`,
  ].filter(Boolean);
}

async function main() {
  if (!process.env.AGENTCOM_BENCH_BUILT) run('cargo', ['build', '--release', '--bins', '--quiet'], { stdio: 'inherit' });
  if (!fs.existsSync(PM2)) run('npm', ['ci']);
  for (const folder of ['hub', 'logs', 'agent']) fs.mkdirSync(at(folder));
  const hub = await Hub.start();
  const token = await startSidecar(hub);
  // pm2 is asked once, 3 s after a start; measured after that it is at rest.
  await until('pm2 to have been asked', () => log().some((line) => /pm2 (knows us|was not asked)/.test(line.message)));
  const first = app(AGENT);
  const held = memory(first.pid);
  const floor = new Floor();
  const pairs = await measurePairs(hub, floor);
  pm2(['delete', 'floor']);
  const last = app(AGENT);
  if (last.pm2_env.restart_time !== RESTARTS || last.pid === first.pid) throw new Error(`pm2 counts ${last.pm2_env.restart_time} restarts, there were ${RESTARTS}`);
  const accounts = await measureSteps(hub, token);
  pm2(['delete', AGENT]);
  const missed = report(pairs, accounts, held);
  const bars = `a restart under ${BARS.gapMs} ms, its gap at most ${BARS.toFloor} times the floor, under ${BARS.rssMb} MB, private at most ${BARS.privateMb} MB, a binary of at most ${BARS.binaryMb} MB`;
  say(missed.length ? `MISSED: ${missed.join('; ')}.` : `Within the bars: ${bars}.`);
  process.exitCode = missed.length ? 1 : 0;
}

function tidy() {
  if (fs.existsSync(at('pm2'))) spawnSync(PM2, ['kill', '-s'], { env: { ...process.env, PM2_HOME: at('pm2') } });
}

main()
  .catch((error) => {
    process.stderr.write(`${error.stack}\nThe logs are in ${BASE}.\n`);
    process.exitCode = 2;
  })
  .finally(() => {
    tidy();
    if (process.exitCode !== 2) fs.rmSync(BASE, { recursive: true, force: true });
  });
