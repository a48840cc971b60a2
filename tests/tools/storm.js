#!/usr/bin/env node
// Many agents at one hub, under one real pm2, while processes are killed and connections cut at random: no task may be lost,
// none done twice, no file left. The shipped programs, the real ecosystem.config.js, everything in a folder of its own that is
// gone afterwards (it is kept, and named, where a bar is missed).
//
//   npm run storm                                    builds, 150 s of faults at 12 agents, judges (exit 1 when a bar is missed)
//   npm run storm -- 40 --agents 6 --seed 7          as many seconds and agents as you say; the same order of faults again
//
//   AGENTCOM_STORM_BIN=target/debug npm run storm    these binaries, as they are; nothing is built
//
// A task is for any agent. Its session writes a line when it begins, works for 0.3 to 3 s, and leaves its result. A seed fixes
// which fault comes when; what it meets depends on the machine.

'use strict';

const fs = require('fs');
const { BASE, Hub, at, build, clear, pm2, pm2Daemon, prepare, sidecarOf, signal, sleep, startAgents } = require('./storm_ground.js');
const { judge } = require('./storm_judge.js');

const given = process.argv.slice(2);
const flag = (name, fallback) => {
  const place = given.indexOf(name);
  return place < 0 ? fallback : Number(given.splice(place, 2)[1]);
};
const AGENTS = flag('--agents', 12);
const SEED = flag('--seed', Date.now() % 1_000_000);
const SECONDS = Number(given[0] || 150);
const NAMES = Array.from({ length: AGENTS }, (_, n) => `agent-${String(n + 1).padStart(2, '0')}`);

const counts = {};
const count = (what) => (counts[what] = (counts[what] || 0) + 1);

/** Numbers from 0 to 1 (mulberry32): each part of the storm draws its own. */
function random(part) {
  let state = [...`${SEED} ${part}`].reduce((sum, letter) => Math.imul(sum ^ letter.charCodeAt(0), 0x01000193), 0x811c9dc5);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const any = (draw, all) => all[Math.floor(draw() * all.length)];
const between = (draw, from, to) => from + draw() * (to - from);

/** Does it again and again until `end`, on average once in so many seconds. */
async function again(what, seconds, end, act) {
  const draw = random(what);
  for (;;) {
    await sleep(Math.min(between(draw, 0.5, 1.5) * seconds * 1000, end - Date.now()));
    if (Date.now() >= end) return;
    if (await act(draw)) count(what);
  }
}

/** Bursts, in which tasks always wait, and pauses, in which agents always do: a task must find more than one idle agent. */
async function load(hub, end, submitted) {
  const draw = random('load');
  const submit = async () => {
    const answer = await hub.ask('POST', '/api/tasks', { description: between(draw, 0.3, 3).toFixed(2) });
    // Without an answer the hub may have it or not; if it has, it is judged too.
    if (answer) submitted.push(answer.task_id);
  };
  for (let burst = false; Date.now() < end; burst = !burst) {
    const until = Math.min(end, Date.now() + between(draw, 3000, 6000));
    while (Date.now() < until) {
      const stats = await hub.ask('GET', '/api/tasks/stats');
      const { queued = 0, assigned = 0 } = stats ? stats.by_status : {};
      const wanted = burst ? 4 - queued : Math.ceil(AGENTS / 3) - queued - assigned;
      for (let n = 0; stats && n < Math.min(wanted, burst ? 4 : 1); n += 1) await submit();
      await sleep(between(draw, 100, 300));
    }
  }
}

/** Whether the load had both: agents that had a choice, and tasks that waited. */
async function watch(hub, end, seen) {
  while (Date.now() < end) {
    const [list, stats] = await Promise.all([hub.ask('GET', '/api/agents'), hub.ask('GET', '/api/tasks/stats')]);
    if (list && stats) {
      seen.looks += 1;
      seen.idle += list.agents.filter((agent) => agent.fsm_state === 'idle').length >= 2;
      seen.waiting += (stats.by_status.queued || 0) > 0;
    }
    await sleep(200);
  }
}

/** A sidecar stands still, and goes on. */
async function freeze(draw, end) {
  const target = sidecarOf(any(draw, NAMES));
  const ms = between(draw, 1000, 5000);
  if (!signal(target, 'SIGSTOP')) return;
  count('sidecars stopped for 1 to 5 s');
  await sleep(Math.min(ms, end + 1000 - Date.now()));
  signal(target, 'SIGCONT');
}

// The sidecars go on without pm2. The copies that the next pm2 starts find the lock taken and exit with 75, ever more slowly,
// until the first one has ended.
async function killPm2(draw) {
  if (!signal(pm2Daemon(), 'SIGKILL')) throw new Error('pm2 was not there to be killed');
  count('kill -9 of pm2');
  await sleep(between(draw, 0, 2000));
  await (draw() < 0.5 ? pm2('resurrect') : startAgents());
}

/** At random times, a few in the run. */
async function killPm2Often(began, end) {
  const draw = random('pm2');
  const times = Math.max(1, Math.round(SECONDS / 40));
  for (let n = 0; n < times; n += 1) {
    await sleep(began + ((end - began) * (n + between(draw, 0.2, 0.6))) / times - Date.now());
    await killPm2(draw);
  }
}

async function rage(hub, proxies) {
  const [began, end] = [Date.now(), Date.now() + SECONDS * 1000];
  const submitted = [];
  const seen = { looks: 0, idle: 0, waiting: 0 };
  const frozen = [];
  await Promise.all([
    load(hub, end, submitted),
    watch(hub, end, seen),
    again('kill -9 of a sidecar', 1, end, (draw) => signal(sidecarOf(any(draw, NAMES)), 'SIGKILL')),
    again('SIGTERM to a sidecar', 4, end, (draw) => signal(sidecarOf(any(draw, NAMES)), 'SIGTERM')),
    again('freeze', 3, end, (draw) => void frozen.push(freeze(draw, end))),
    again('kill -9 of the hub', 5, end, () => hub.kill()),
    again('restarts commanded', 2, end, async (draw) => {
      const [name, force] = [any(draw, NAMES), draw() < 0.25];
      const answer = await hub.ask('POST', `/api/admin/agents/${name}/restart`, { reason: 'storm', deadline_ms: 3000, force });
      return answer && !answer.repeated;
    }),
    again('connections cut, one agent', 2, end, (draw) => proxies[any(draw, NAMES)].cut(any(draw, ['resetAndDestroy', 'destroySoon']))),
    again('connections cut, all agents', 8, end, (draw) => {
      const how = any(draw, ['resetAndDestroy', 'destroySoon']);
      return NAMES.filter((name) => proxies[name].cut(how)).length > 0;
    }),
    killPm2Often(began, end),
  ]);
  await Promise.all(frozen);
  return { submitted, seen };
}

const FAULTS = [
  ...['kill -9 of a sidecar', 'SIGTERM to a sidecar', 'sidecars stopped for 1 to 5 s', 'restarts commanded'],
  ...['kill -9 of the hub', 'kill -9 of pm2', 'connections cut, one agent', 'connections cut, all agents'],
];

function table(found, seen) {
  const row = (what, number) => `  ${what.padEnd(44)} ${String(number).padStart(5)}`;
  const share = (part) => `${Math.round((100 * part) / Math.max(1, seen.looks))} %`;
  return [
    `\n${AGENTS} agents, ${SECONDS} s of faults (seed ${SEED}), settled ${found.seconds.toFixed(1)} s later:`,
    row('tasks', found.tasks),
    row('sessions', found.sessions),
    row('of the time, tasks waited', share(seen.waiting)),
    row('of the time, two agents or more were idle', share(seen.idle)),
    ...FAULTS.map((fault) => row(fault, counts[fault] || 0)),
    ...Object.entries({ ...found.noted, ...found.missed }).map(([what, all]) => row(what, all.length)),
  ].join('\n');
}

/** At most so many of each kind. */
function details(found, most) {
  return Object.entries({ ...found.noted, ...found.missed }).flatMap(([what, all]) => [
    ...all.slice(0, most).map((line) => `  ${what}: ${line}`),
    ...(all.length > most ? [`  ${what}: ${all.length - most} more`] : []),
  ]);
}

async function storm(hub) {
  await hub.start();
  const proxies = await prepare(hub, NAMES);
  console.log(`${AGENTS} agents are idle; ${SECONDS} s of faults, seed ${SEED} ...`);
  const { submitted, seen } = await rage(hub, proxies);
  const found = await judge(hub, NAMES, proxies, submitted);
  console.log([table(found, seen), ...details(found, 3)].join('\n'));
  fs.writeFileSync(at('report.txt'), [table(found, seen), ...details(found, Infinity)].join('\n'));
  // A storm that was none shows nothing.
  const calm = FAULTS.filter((fault) => !counts[fault]);
  if (!seen.waiting || !seen.idle) calm.push('tasks that waited, or agents that had a choice');
  const missed = Object.entries(found.missed).filter(([, all]) => all.length > 0);
  const names = [...missed.map(([bar, all]) => `${bar}: ${all.length}`), ...calm.map((fault) => `none: ${fault}`)];
  if (names.length > 0) throw new Error(names.join(', '));
}

async function main() {
  if (!(SECONDS > 0 && AGENTS >= 3 && Number.isInteger(AGENTS))) throw new Error('npm run storm -- SECONDS [--agents N, at least 3] [--seed N]');
  build();
  const hub = new Hub();
  for (const name of ['SIGINT', 'SIGTERM']) process.once(name, () => clear(hub, false).then(() => process.exit(1)));
  let failed = null;
  try {
    await storm(hub);
  } catch (error) {
    failed = error;
  }
  await clear(hub, failed);
  if (failed) {
    console.error(`storm: ${failed.message}`);
    console.error(`  -> ${BASE} is kept: report.txt, logs, the agents' folders, the hub's data. Delete it when you have looked.`);
    process.exit(1);
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(`storm: ${error.message}`);
  process.exit(1);
});
