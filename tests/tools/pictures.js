#!/usr/bin/env node
// Takes the pictures of the hub's page that docs/dashboard.md shows, of a hub of its own with simulated agents:
//   CHROMIUM=/usr/bin/chromium node tests/tools/pictures.js target/debug/agentcom-hub
// Then make each small: pngquant --force --ext .png --strip 128 docs/page/*.png

'use strict';

const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { setTimeout: pause } = require('timers/promises');
const { Crowd } = require('../operator/page/crowd.js');
const { Stage } = require('../operator/page/stage.js');

const TO = path.resolve(__dirname, '..', '..', 'docs', 'page');
const OUTPUT = 'compiling module 17 of 45\n\u001b[31mwarning\u001b[0m: unused import <b>not bold</b>\nlinking ...\n';

/** Agents whose restarts take as long as those of an agent at work. */
class Fleet extends Crowd {
  dial(agent, restarted) {
    const identified = super.dial(agent, restarted);
    agent.socket = [...this.sockets].pop();
    this.agents = { ...this.agents, [agent.id]: agent };
    return identified;
  }

  /** Breaks the connections of these agents. */
  lose(ids) {
    for (const id of ids) this.agents[id].socket.terminate();
  }

  async restart(agent, command, socket, say) {
    if (agent.refuses > 0) return super.restart(agent, command, socket, say);
    const { command_id, reason } = command;
    await pause(40);
    say({ type: 'restart_ack', command_id, outcome: 'accepted' });
    await pause(agent.busy ?? 110);
    delete agent.busy;
    say({ type: 'agent_restarting', reason, command_id, forced: false, expected_back_ms: 5000 });
    await pause(90);
    socket.close(1000);
    await pause(agent.away ?? 350);
    agent.boot += 1;
    agent.version = '0.2.0';
    return this.ended || this.dial(agent, { command_id, reason, forced: false, gap_ms: 350 });
  }
}

/** Waits until it holds. */
async function until(what, holds) {
  for (let tries = 0; !(await holds()); tries += 1) {
    if (tries > 400) throw new Error(`${what}: not within 40 s`);
    await pause(100);
  }
}

async function take(stage, fleet) {
  const { api } = stage;
  const pool = (n) => ['edge', 'cpu', 'gpu'][n % 3];
  const agents = Array.from({ length: 40 }, (_, at) => at + 1).map((n) => ({
    id: `${pool(n)}-${String(n).padStart(3, '0')}`,
    labels: { pool: pool(n), zone: `z${n % 4}` },
    output: OUTPUT,
    version: n % 8 === 4 ? '0.1.0' : '0.2.0',
    refuses: n === 6 ? 1 : 0,
    detail: 'it has restarted 3 times in 10 min: again in 4 min',
    busy: n === 1 ? 1400 : undefined,
    away: 250 + ((n * 97) % 700),
  }));
  await fleet.join(agents);
  const ops = await stage.token('ops', 'operator');
  const act = (url, body) => api('POST', `/api/v1/${url}`, body, ops);
  for (const reason of ['driver 7', 'again', 'a new prompt', 'tune']) {
    await act('agents/cpu-001/restart', { reason });
    await until('cpu-001 to be back', async () => (await api('GET', '/api/v1/restarts?open=true')).items.length === 0);
  }
  for (const id of ['cpu-001', 'cpu-007', 'cpu-019', 'gpu-005', 'gpu-011', 'gpu-020']) {
    await act('tasks', { description: `build ${id}`, assign_to: id });
  }
  const start = async (body) => (await act('rollouts', { soak_ms: 1000, ...body })).rollout.rollout_id;
  const state = async (id) => api('GET', `/api/v1/rollouts/${id}`);
  const halted = await start({ selector: 'label.pool=edge', reason: 'version 0.3', max_unavailable: 2 });
  await until('the rollout to halt', async () => (await state(halted)).state === 'halted');
  const canary = await start({ selector: 'label.pool=gpu,label.zone=z2', reason: 'driver 8', canary: 1 });
  await until('the canary to be through', async () => (await state(canary)).awaits_promote);
  await act('drain', { selector: 'id=cpu-034,id=cpu-037', reason: 'new disks' });
  fleet.lose(['cpu-004', 'gpu-023']);

  const shoot = async (name, url, options, before) => {
    const page = await stage.page(options);
    await stage.logIn(page, ops, url);
    await pause(1_500);
    if (before) await before(page);
    await page.screenshot({ path: path.join(TO, `${name}.png`) });
    await page.context().close();
  };
  const dark = { colorScheme: 'dark' };
  await shoot('fleet-light', '/dashboard', { viewport: { width: 1440, height: 780 }, colorScheme: 'light' });
  await shoot('agent-dark', '/dashboard/agents/cpu-001', dark);
  await shoot('rollout-dark', `/dashboard/rollouts/${halted}`, dark);
  const phone = { viewport: { width: 390, height: 760 }, colorScheme: 'light' };
  await shoot('dialog-phone', '/dashboard?selector=label.pool%3Dgpu', phone, async (page) => {
    await page.getByRole('button', { name: 'Restart' }).click();
    await page.getByRole('button', { name: /Restart \d+ agents/ }).waitFor();
    await page.fill('dialog [name=reason]', 'driver 7');
    await page.locator('dialog .command', { hasText: 'driver 7' }).waitFor();
  });
}

async function main() {
  const program = path.resolve(process.argv[2]);
  const data = fs.mkdtempSync(path.join(os.tmpdir(), 'pictures-'));
  const token = execFileSync(program, ['token', 'admin', '--admin', '--init', '--data', data], { encoding: 'utf8' });
  const hub = spawn(program, ['serve', '--listen', '127.0.0.1:0', '--data', data], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise((resolve) => {
    let log = '';
    hub.stdout.on('data', (part) => {
      log += part;
      const found = /"listening".*?127\.0\.0\.1:(\d+)/.exec(log);
      if (found) resolve(found[1]);
    });
  });
  const stage = new Stage(process.env.CHROMIUM ?? '/usr/bin/chromium', port, token.trim().split(' ').pop());
  const fleet = new Fleet(port, stage.api);
  await stage.launch();
  try {
    await take(stage, fleet);
  } finally {
    fleet.end();
    await stage.browser.close();
    hub.kill();
    await new Promise((resolve) => hub.on('exit', resolve));
    fs.rmSync(data, { recursive: true });
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack);
    process.exit(1);
  },
);
