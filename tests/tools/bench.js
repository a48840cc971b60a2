#!/usr/bin/env node
// What a commanded restart costs under a real pm2, and what the idle sidecar holds: release binaries, the real
// ecosystem.config.js, hub and sidecar beside each other, everything in a folder of its own that is gone afterwards.
//
//   npm run bench              builds, measures 21 restarts, judges by the bars (exit 1 when one is missed)
//   npm run bench -- 50        as many restarts as you say, at least 15
//
// A restart is measured in the sidecar's own log: from the line that says that `restart_sidecar` was heard (`restart_commanded`) to the next
// run's line that says `identified`. pm2's floor is measured the same way: an app that does nothing but write the time
// and exit 0, under the same settings.

'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..');
const BIN = path.resolve(process.env.CARGO_TARGET_DIR || path.join(TOP, 'target'), 'release');
const PM2 = path.join(TOP, 'node_modules', '.bin', 'pm2');
const AGENT = 'bench-agent';
const RESTARTS = Math.max(15, Number(process.argv[2]) || 21);
// The Node sidecar under the same pm2 on this class of machine: median of 7, and its idle memory.
const NODE = { gapMs: 3070, rssMb: 55.5, pssMb: 16 };
const BARS = { gapMs: 100, rssMb: 8 };
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

async function startSidecar(hub) {
  const { token } = await hub.call('POST', '/api/onboard/register', { agent_id: AGENT });
  const config = {
    agent_id: AGENT,
    token,
    hub_url: `ws://${hub.address}/ws`,
    capabilities: ['code'],
    wake_command: 'true',
    log_level: 'info',
    restart_intensity: { max: 1000, window_ms: 60000 },
  };
  fs.mkdirSync(at('agent', 'results'), { recursive: true });
  fs.writeFileSync(at('agent', 'config.json'), JSON.stringify(config), { mode: 0o600 });
  const env = { AGENTCOM_BIN_DIR: BIN, AGENTCOM_CONFIG: at('agent', 'config.json'), AGENTCOM_NAME: AGENT, AGENTCOM_LOG_DIR: at('logs'), AGENTCOM_AGENTS: '' };
  pm2(['start', path.join(TOP, 'ecosystem.config.js'), '--only', AGENT], env);
  await until('the sidecar to be identified', () => heard('identified').length === 1);
}

/** An idle restart: the times of its steps, ms from the command. */
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
  return {
    end: first((line) => line.message === 'the sidecar ends'),
    start: first((line) => line.message === 'the sidecar starts'),
    gap: first((line) => line.said === 'identified'),
  };
}

/** From an app's last word to its next run's first, ms: what pm2 takes for itself. */
async function floor() {
  const stamp = 'date +%s%N >> stamps';
  fs.writeFileSync(at('floor.sh'), `#!/bin/sh\n${stamp}\nsleep 0.7\n${stamp}\nexit 0\n`, { mode: 0o755 });
  const settings = require(path.join(TOP, 'ecosystem.config.js')).apps.find((it) => it.name === 'agentcom-sidecar');
  const app = { ...settings, name: 'floor', script: at('floor.sh'), args: [], cwd: BASE, out_file: at('logs', 'floor'), error_file: at('logs', 'floor') };
  fs.writeFileSync(at('floor.json'), JSON.stringify({ apps: [app] }));
  pm2(['start', at('floor.json')]);
  const stamps = () => (fs.existsSync(at('stamps')) ? fs.readFileSync(at('stamps'), 'utf8').trim().split('\n').map((ns) => Number(BigInt(ns) / 1000n) / 1000) : []);
  const all = await until('the floor', () => { const found = stamps(); return found.length > 2 * RESTARTS && found; });
  pm2(['delete', 'floor']);
  return Array.from({ length: RESTARTS }, (_, i) => all[2 * i + 2] - all[2 * i + 1]);
}

function memory(pid) {
  const kb = (file, key) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(fs.readFileSync(`/proc/${pid}/${file}`, 'utf8'))[1]);
  return { rss: (kb('status', 'VmRSS') * 1024) / MB, pss: (kb('smaps_rollup', 'Pss') * 1024) / MB };
}

function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const nth = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { median: nth(0.5), p90: nth(0.9), min: sorted[0], max: sorted[sorted.length - 1] };
}

const say = (line = '') => process.stdout.write(`${line}\n`);
const ms = (value) => `${value.toFixed(1).padStart(7)} ms`;
const row = (what, { median, p90, min, max }) => say(`  ${what.padEnd(44)} median ${ms(median)}   p90 ${ms(p90)}   min ${ms(min)}   max ${ms(max)}`);

async function main() {
  if (!process.env.AGENTCOM_BENCH_BUILT) run('cargo', ['build', '--release', '--bins', '--quiet'], { stdio: 'inherit' });
  if (!fs.existsSync(PM2)) run('npm', ['ci']);
  for (const folder of ['hub', 'logs', 'agent']) fs.mkdirSync(at(folder));
  const hub = await Hub.start();
  await startSidecar(hub);
  // pm2 is asked once, 3 s after a start; measured after that it is at rest.
  await until('pm2 to have been asked', () => log().some((line) => /pm2 (knows us|was not asked)/.test(line.message)));
  const first = app(AGENT);
  const held = memory(first.pid);
  const steps = [];
  for (let nth = 1; nth <= RESTARTS; nth += 1) steps.push(await restart(hub, nth));
  const last = app(AGENT);
  if (last.pm2_env.restart_time !== RESTARTS || last.pid === first.pid) throw new Error(`pm2 counts ${last.pm2_env.restart_time} restarts, there were ${RESTARTS}`);
  pm2(['delete', AGENT]);
  const gap = spread(steps.map((it) => it.gap));

  say(`${RESTARTS} commanded restarts, idle, under pm2 ${require(path.join(TOP, 'node_modules', 'pm2', 'package.json')).version}:`);
  row('restart_sidecar heard -> identified again', gap);
  row('  of it: goodbye and exit', spread(steps.map((it) => it.end)));
  row('  of it: pm2, until the next run speaks', spread(steps.map((it) => it.start - it.end)));
  row('  of it: dial, handshake, identified', spread(steps.map((it) => it.gap - it.start)));
  row("pm2's floor: an app that only exits 0", spread(await floor()));
  say(`  The Node sidecar: ${NODE.gapMs} ms, ${(NODE.gapMs / gap.median).toFixed(0)} times as long.`);
  say(`Idle memory: RSS ${held.rss.toFixed(1)} MB (Node ${NODE.rssMb}), PSS ${held.pss.toFixed(1)} MB (Node ${NODE.pssMb}).`);
  say(`Binary: ${(fs.statSync(path.join(BIN, 'agentcom-sidecar')).size / MB).toFixed(1)} MB.`);
  const missed = [
    gap.median >= BARS.gapMs && `the median gap is not under ${BARS.gapMs} ms`,
    held.rss >= BARS.rssMb && `the resident memory is not under ${BARS.rssMb} MB`,
  ].filter(Boolean);
  say(missed.length ? `MISSED: ${missed.join('; ')}.` : `Within the bars: under ${BARS.gapMs} ms, under ${BARS.rssMb} MB.`);
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
