#!/usr/bin/env node
// Twenty idle sidecars under one real pm2, at one hub, while pm2 is asked as `pm2 monit` asks it: release binaries, the real
// ecosystem.config.js and its folder of agents, everything in a folder of its own that is gone afterwards.
//
//   npm run soak               builds, 10 minutes, judges by the bars (exit 1 when one is missed)
//   npm run soak -- 3          as many minutes as you say
//
// Bars, for each sidecar: resident memory and open files flat from the first quarter to the last, under 0.1 % of one core.

'use strict';

const { spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..');
const BIN = path.resolve(process.env.CARGO_TARGET_DIR || path.join(TOP, 'target'), 'release');
const MINUTES = Number(process.argv[2]) || 10;
const AGENTS = 20;
const BARS = { cpuPercent: 0.1, growthKb: 256 };
// Starts, first pings and pm2's own word are over by then.
const WARM_UP_MS = 20_000;
const SAMPLE_MS = 5_000;
// pm2 monit's own pace (Dashboard in pm2 7: 800 ms); twice that here.
const ASK_MS = 400;

// Short: pm2's sockets live in it, and a unix socket's path has at most 108 bytes.
const BASE = fs.mkdtempSync(path.join(os.tmpdir(), 'acs-'));
const at = (...names) => path.join(BASE, ...names);
const NAMES = Array.from({ length: AGENTS }, (_, n) => `agent-${String(n + 1).padStart(2, '0')}`);

// Required once it is installed, with this in its environment.
process.env.PM2_HOME = at('pm2');
let pm2;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const call = (name, ...args) =>
  new Promise((resolve, reject) => pm2[name](...args, (error, answer) => (error ? reject(error) : resolve(answer))));

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: TOP, encoding: 'utf8', ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.status}:\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

// By pm2's command line, as an operator would.
function start(names, env) {
  const file = path.join(TOP, 'ecosystem.config.js');
  const all = { ...process.env, AGENTCOM_BIN_DIR: BIN, AGENTCOM_LOG_DIR: at('logs'), PM2_PROCESS_NAME: '', AGENTCOM_AGENTS: '', ...env };
  run(path.join(TOP, 'node_modules', '.bin', 'pm2'), ['-s', 'start', file, '--only', names.join(',')], { env: all });
}

async function until(what, probe) {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited a minute in vain for ${what}`);
    await sleep(50);
  }
}

async function startAll() {
  start(['agentcom-hub'], { AGENTCOM_HUB_LISTEN: '127.0.0.1:0', AGENTCOM_HUB_DATA: at('hub') });
  const address = await until('the hub to listen', () => {
    const files = ['out', 'err'].map((end) => at('logs', `agentcom-hub.${end}.log`)).filter((file) => fs.existsSync(file));
    const found = files.map((file) => /127\.0\.0\.1:[1-9]\d*/.exec(fs.readFileSync(file, 'utf8'))).find(Boolean);
    return found && found[0];
  });
  for (const name of NAMES) {
    const body = JSON.stringify({ agent_id: name });
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`http://${address}/api/onboard/register`, { method: 'POST', headers, body });
    const { token } = await answer.json();
    const config = { agent_id: name, token, hub_url: `ws://${address}/ws`, capabilities: ['code'], wake_command: 'true' };
    fs.mkdirSync(at('agents', name, 'results'), { recursive: true });
    fs.writeFileSync(at('agents', name, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  }
  start(NAMES, { AGENTCOM_AGENTS: at('agents') });
  await until('all agents to be idle', async () => {
    const { agents } = await (await fetch(`http://${address}/api/agents`)).json();
    return agents.filter((agent) => agent.fsm_state === 'idle').length === AGENTS;
  });
}

const TICK = Number(run('getconf', ['CLK_TCK']).trim());

function look(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return {
    cpuMs: ((Number(fields[11]) + Number(fields[12])) * 1000) / TICK,
    rssKb: Number(/VmRSS:\s+(\d+)/.exec(status)[1]),
    files: fs.readdirSync(`/proc/${pid}/fd`).length,
  };
}

const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const range = (all, unit, digits = 0) => `${Math.min(...all).toFixed(digits)} to ${Math.max(...all).toFixed(digits)} ${unit}`;

async function soak() {
  await startAll();
  await call('connect', true);
  const before = (await call('list')).filter((app) => NAMES.includes(app.name));
  const pids = before.map((app) => app.pid);
  let asked = 0;
  const asking = setInterval(() => call('list').then(() => (asked += 1)), ASK_MS);
  await sleep(WARM_UP_MS);
  const [samples, began] = [[pids.map(look)], Date.now()];
  while (Date.now() - began < MINUTES * 60_000) {
    await sleep(SAMPLE_MS);
    samples.push(pids.map(look));
  }
  clearInterval(asking);
  const seconds = (Date.now() - began) / 1000;
  const after = (await call('list')).filter((app) => NAMES.includes(app.name));
  pm2.disconnect();
  const quarter = Math.max(1, Math.floor(samples.length / 4));
  const each = pids.map((pid, n) => {
    const of = (part, what) => part.map((sample) => sample[n][what]);
    const [first, last] = [samples.slice(0, quarter), samples.slice(-quarter)];
    return {
      cpu: (samples[samples.length - 1][n].cpuMs - samples[0][n].cpuMs) / seconds / 10,
      rss: median(of(last, 'rssKb')),
      growth: median(of(last, 'rssKb')) - median(of(first, 'rssKb')),
      files: median(of(last, 'files')),
      moreFiles: Math.max(...of(last, 'files')) - Math.max(...of(first, 'files')),
    };
  });
  const all = (what) => each.map((it) => it[what]);
  console.log(`${AGENTS} idle sidecars, ${(seconds / 60).toFixed(1)} minutes, pm2 asked ${asked} times, ${samples.length} samples:`);
  console.log(`  CPU of one core    ${range(all('cpu'), '%', 3)}   (bar ${BARS.cpuPercent} %; the clock ticks every ${1000 / TICK} ms)`);
  console.log(`  resident           ${range(all('rss'), 'kB')}, growth ${range(all('growth'), 'kB')}   (bar ${BARS.growthKb} kB)`);
  console.log(`  open files         ${range(all('files'), '')}, more than at first: ${Math.max(...all('moreFiles'))}   (bar 0)`);
  const lived = after.every((app, n) => app.pid === before[n].pid && app.pm2_env.status === 'online');
  console.log(`  all lived through it: ${lived ? 'yes' : 'NO'}`);
  const missed = each.filter((it) => it.cpu >= BARS.cpuPercent || it.growth > BARS.growthKb || it.moreFiles > 0);
  if (missed.length > 0 || !lived) throw new Error(`${missed.length} sidecars miss a bar`);
}

async function main() {
  run('cargo', ['build', '--release', '--bins'], { stdio: 'inherit' });
  if (!fs.existsSync(path.join(TOP, 'node_modules', 'pm2'))) run('npm', ['ci'], { stdio: 'inherit' });
  pm2 = require(path.join(TOP, 'node_modules', 'pm2'));
  let failed = null;
  try {
    await soak();
  } catch (error) {
    failed = error;
  }
  spawnSync(path.join(TOP, 'node_modules', '.bin', 'pm2'), ['-s', 'kill'], { env: process.env });
  fs.rmSync(BASE, { recursive: true, force: true });
  if (failed) {
    console.error(`soak: ${failed.message}`);
    process.exit(1);
  }
  process.exit(0);
}

main();
