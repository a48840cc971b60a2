#!/usr/bin/env node
// What hub and sidecar hold of the payloads that they are given, as a share of the payloads' bytes: release binaries,
// documents that are as costly as possible for a reader that makes a tree of them.
//
//   npm run bench:memory       builds, measures, judges by the bars (exit 1 when one is missed)
//
// Held is the growth of private memory once all is quiet; the peak is the growth of the largest resident set.

'use strict';

const { spawn, spawnSync } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const net = require('net');
const os = require('os');
const path = require('path');

const TOP = path.resolve(__dirname, '..', '..');
const BIN = path.resolve(process.env.CARGO_TARGET_DIR || path.join(TOP, 'target'), 'release');
const HUB = path.join(BIN, 'agentcom-hub');
const SIDECAR = path.join(BIN, 'agentcom-sidecar');
const BASE = fs.mkdtempSync(path.join(os.tmpdir(), 'acm-'));
const at = (...names) => path.join(BASE, ...names);
const MIB = 1 << 20;
const HELD_BAR = 2;
const children = [];
const missed = [];
const rows = [];

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, probe) {
  const end = Date.now() + 60_000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited a minute in vain for ${what}`);
    await sleep(20);
  }
}

function start(program, args, cwd, env = {}) {
  const log = fs.openSync(at('log'), 'a');
  const child = spawn(program, args, { cwd, stdio: ['ignore', log, log], env: { ...process.env, ...env } });
  children.push(child);
  return child;
}

function output(program, args) {
  const done = spawnSync(program, args, { cwd: BASE, encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  return done.stdout.trim();
}

/** Private memory and the largest resident set so far, in bytes. */
function memory(pid) {
  const number = (file, name) => {
    const text = fs.readFileSync(`/proc/${pid}/${file}`, 'utf8');
    return [...text.matchAll(new RegExp(`^${name}:\\s*(\\d+) kB`, 'gm'))].reduce((sum, it) => sum + Number(it[1]) * 1024, 0);
  };
  return { held: number('smaps_rollup', 'Private_\\w+'), resident: number('status', 'VmRSS'), peak: number('status', 'VmHWM') };
}

/** Starts the next measurement of a peak: the largest resident set is forgotten. */
function forgetPeak(pid) {
  fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

async function measure(name, pid, bytes, work, bar = HELD_BAR) {
  forgetPeak(pid);
  const before = memory(pid);
  await work();
  const quiet = await settled(pid);
  const now = memory(pid);
  add(name, bytes, before, quiet, now, bar);
}

function add(name, bytes, before, held, now, bar = HELD_BAR) {
  const ratio = (held - before.held) / bytes;
  rows.push({ name, bytes, held: held - before.held, ratio, peak: (now.peak - before.resident) / bytes });
  if (ratio > bar) missed.push(`${name}: ${ratio.toFixed(2)} times its bytes are held, ${bar} are allowed`);
}

/** The private memory once it has not changed for a while. */
async function settled(pid) {
  let last = -1;
  return until('quiet', async () => {
    const { held } = memory(pid);
    const same = Math.abs(held - last) < 64 * 1024;
    last = held;
    await sleep(500);
    return same && held;
  });
}

function hub(address, token) {
  const [host, port] = address.split(':');
  return (method, route, body) => new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const request = http.request({ host, port, method, path: route, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => {
        const text = Buffer.concat(parts).toString();
        if (answer.statusCode >= 300) reject(new Error(`${method} ${route}: ${answer.statusCode} ${text.slice(0, 300)}`));
        else resolve(text);
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** A WebSocket client: text frames out, text frames in. */
async function socket(address, onText) {
  const [host, port] = address.split(':');
  const stream = net.connect(Number(port), host);
  const key = crypto.randomBytes(16).toString('base64');
  stream.write(`GET /ws HTTP/1.1\r\nHost: ${address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
  let bytes = Buffer.alloc(0);
  let open = false;
  await new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('data', (part) => {
      bytes = Buffer.concat([bytes, part]);
      if (!open) {
        const end = bytes.indexOf('\r\n\r\n');
        if (end < 0) return;
        open = true;
        bytes = bytes.subarray(end + 4);
        resolve();
      }
      for (;;) {
        if (bytes.length < 2) return;
        const short = bytes[1] & 127;
        const head = short === 126 ? 4 : short === 127 ? 10 : 2;
        if (bytes.length < head) return;
        const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
        if (bytes.length < head + length) return;
        if ((bytes[0] & 15) === 1) onText(JSON.parse(bytes.subarray(head, head + length).toString()));
        bytes = bytes.subarray(head + length);
      }
    });
  });
  const send = (text) => new Promise((resolve) => {
    const payload = Buffer.from(text);
    const head = Buffer.alloc(14);
    head[0] = 0x81;
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
    // The mask is zero: the payload goes out as it is.
    stream.write(head);
    stream.write(payload, resolve);
  });
  return { send, stream };
}

/** Documents of about this many bytes. */
const SHAPES = {
  'empty keys': (bytes) => `{"a":[${Array(Math.floor(bytes / 7)).fill('{"":0}').join(',')}]}`,
  'empty lists': (bytes) => `{"a":[${Array(Math.floor(bytes / 3)).fill('[]').join(',')}]}`,
  records: (bytes) => `{"a":[${Array(Math.floor(bytes / 60)).fill('{"name":"a name of some length","n":12345,"ok":true}').join(',')}]}`,
};

async function hubWithTasks(address, api, pid) {
  for (const [shape, make] of Object.entries(SHAPES)) {
    const body = `{"description":"d","metadata":${make(MIB - 300)},"assign_to":"nobody"}`;
    await measure(`hub: 32 waiting tasks of 1 MiB, ${shape}`, pid, 32 * body.length, async () => {
      for (let n = 0; n < 32; n += 1) await api('POST', '/api/tasks', body);
    });
  }
  const small = '{"description":"look at the open pull requests","metadata":{"repo":"a/b","number":17},"assign_to":"nobody"}';
  const first = JSON.parse(await api('POST', '/api/tasks', small)).task_id;
  const each = (await api('GET', `/api/tasks/${first}`)).length;
  await measure('hub: 10,000 waiting tasks of the usual size', pid, 10_000 * each, async () => {
    for (let n = 0; n < 10_000; n += 50) await Promise.all(Array(50).fill(0).map(() => api('POST', '/api/tasks', small)));
  });
}

async function hubWithResults(address, api, token, pid) {
  const ids = [];
  for (let n = 0; n < 32; n += 1) ids.push(JSON.parse(await api('POST', '/api/tasks', '{"description":"d","assign_to":"worker"}')).task_id);
  const result = SHAPES.records(MIB);
  await measure('hub: 32 results of 1 MiB, records', pid, 32 * result.length, async () => {
    let left = ids.length;
    const agent = await socket(address, (frame) => {
      if (frame.type === 'task_assign') {
        const { task_id, generation } = frame;
        agent.send(JSON.stringify({ type: 'task_accepted', task_id, generation }));
        agent.send(`{"type":"task_complete","task_id":"${task_id}","generation":${generation},"result":${result}}`);
      } else if (frame.type === 'task_ack' && frame.status === 'complete') {
        left -= 1;
      }
    });
    await agent.send(JSON.stringify({ type: 'identify', agent_id: 'worker', token, boot_id: 'b', features: ['task_reassign'] }));
    await until('the results', () => left === 0);
    agent.stream.destroy();
  });
}

async function hubWithAgents(address, api, pid) {
  const sockets = [];
  const capabilities = JSON.stringify(Array(100).fill(0).map((_, n) => `capability-${n}-`.padEnd(150, 'x')));
  await measure('hub: 200 agents with the most capabilities (bound: 32 KiB each), and 10 readers of their list that do not read', pid, 200 * (32 << 10), async () => {
    for (let n = 0; n < 200; n += 1) {
      const name = `agent-${n}`;
      const { token } = JSON.parse(await api('POST', '/api/onboard/register', JSON.stringify({ agent_id: name })));
      let identified = false;
      const agent = await socket(address, (frame) => { identified ||= frame.type === 'identified'; });
      await agent.send(`{"type":"identify","agent_id":"${name}","token":"${token}","capabilities":${capabilities}}`);
      await until('identified', () => identified);
      sockets.push(agent.stream);
    }
    const [host, port] = address.split(':');
    for (let n = 0; n < 10; n += 1) {
      const reader = net.connect(Number(port), host);
      reader.pause();
      reader.write(`GET /api/agents HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      sockets.push(reader);
    }
  });
  sockets.forEach((it) => it.destroy());
}

/** A sidecar whose journal is as full as the outbox and the parked work may be, with 256 KiB each. */
async function sidecarWithFullJournal() {
  const folder = at('agent');
  fs.mkdirSync(folder);
  const document = SHAPES['empty keys'](256 << 10);
  const outbox = Array(32).fill(0).map((_, n) => `{"task_id":"done-${n}","generation":1,"verdict":"completed","result":{"status":"success",${document.slice(1)}}`);
  const parked = Array(8).fill(0).map((_, n) => `{"kind":"under_way","task_id":"parked-${n}","generation":1,"status":"working",` +
    `"sidecar":{"stage":{"name":"running"},"assignment":{"task_id":"parked-${n}","generation":1,"metadata":${document}}}}`);
  const journal = `{"schema":2,"active":null,"recovering":null,"outbox":[${outbox.join(',')}],"shelf":[${parked.join(',')}],"restarts":{}}`;
  fs.writeFileSync(path.join(folder, 'queue.json'), journal);
  // Nobody listens there: everything stays.
  const config = { agent_id: 'side', token: 'token', hub_url: 'ws://127.0.0.1:9/ws', wake_command: 'true' };
  fs.writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  const empty = at('idle');
  fs.mkdirSync(empty);
  fs.writeFileSync(path.join(empty, 'config.json'), JSON.stringify(config), { mode: 0o600 });
  const started = async (where) => {
    const { pid } = start(SIDECAR, ['run', '--config', path.join(where, 'config.json')], where);
    await until('its socket', () => spawnSync(SIDECAR, ['status', '--config', path.join(where, 'config.json')]).status === 0);
    await settled(pid);
    return pid;
  };
  const idle = memory(await started(empty));
  const full = await started(folder);
  add('sidecar: 32 results and 8 parked tasks of 256 KiB each, read at the start', journal.length, idle, memory(full).held, memory(full));
  await measure('sidecar: the same, written six times', full, journal.length, async () => {
    for (let n = 0; n < 3; n += 1) for (const command of ['drain', 'resume']) output(SIDECAR, [command, '--config', path.join(folder, 'config.json')]);
  });
}

async function main() {
  if (!process.env.AGENTCOM_BENCH_BUILT) {
    const built = spawnSync('cargo', ['build', '--release', '--quiet', '--bins'], { cwd: TOP, stdio: 'inherit' });
    if (built.status !== 0) throw new Error('cargo build failed');
  }
  const token = output(HUB, ['token', 'admin', '--admin', '--init', '--data', at('hub')]).split(/\s+/).pop();
  const worker = output(HUB, ['token', 'worker', '--data', at('hub')]).split(/\s+/).pop();
  const { pid } = start(HUB, ['serve', '--listen', '127.0.0.1:0', '--data', at('hub')], BASE);
  const address = await until('the hub', () => (/listening[^\n]*?(127\.0\.0\.1:[1-9]\d*)/.exec(fs.readFileSync(at('log'), 'utf8')) || [])[1]);
  const api = hub(address, token);
  await settled(pid);
  await sidecarWithFullJournal();
  await hubWithAgents(address, api, pid);
  await hubWithResults(address, api, worker, pid);
  await hubWithTasks(address, api, pid);
}

function report() {
  const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;
  for (const { name, bytes, held, ratio, peak } of rows) {
    console.log(`${name}\n    ${mib(bytes)} given, ${mib(held)} held: ${ratio.toFixed(2)} times; at the peak ${peak.toFixed(2)} times`);
  }
  for (const bar of missed) console.log(`missed: ${bar}`);
}

main().then(() => {
  report();
  process.exitCode = missed.length ? 1 : 0;
}, (error) => {
  report();
  console.error(error);
  console.error(fs.readFileSync(at('log'), 'utf8').slice(-2_000));
  process.exitCode = 1;
}).finally(() => {
  children.forEach((child) => child.kill('SIGKILL'));
  fs.rmSync(BASE, { recursive: true, force: true });
});
