// Whether a storm has lost a task, had one done twice, or left a file: judged by the hub's own records, by what the sessions
// wrote down, and by what lies in the agents' folders.

'use strict';

const fs = require('fs');
const path = require('path');
const { BIN, CONFIRMATION_MS, at, runBeside, sessions, sleep } = require('./storm_ground.js');

// How long the hub keeps a task for an agent that is away. (With a short one in the environment, which the hub reads too, tasks
// are often woken again, and rightly; still none may be lost and no file left.)
const GRACE_MS = Number(process.env.AGENTCOM_HUB_RECONNECT_GRACE_MS) || 30_000;
// The proxy learns of a broken connection and of a return within this time of the hub.
const CLOCK_MS = 500;
// A confirmation in vain, pm2's longest wait, an assignment that nobody accepted, and what they take together.
const SETTLE_S = 150;
// For what is left in the folders once every task has ended: two of the sidecar's answer timeouts.
const TIDY_S = 30;

/** Files of tasks in the agents' results folders, as `agent/results/file`. */
function files(names, below = '') {
  return names.flatMap((name) => {
    const folder = at('agents', name, 'results', below);
    if (!fs.existsSync(folder)) return [];
    const found = fs.readdirSync(folder, { withFileTypes: true }).filter((entry) => !entry.isDirectory());
    return found.map((entry) => path.join(name, 'results', below, entry.name));
  });
}

/** What the sessions wrote when they began, by task, the earliest first. */
function wakes(names) {
  const byTask = new Map();
  for (const agent of names) {
    const file = at('agents', agent, 'wakes.log');
    const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : [];
    for (const [task, generation, time] of lines.filter(Boolean).map((line) => line.split(' '))) {
      byTask.set(task, [...(byTask.get(task) || []), { agent, generation: Number(generation), time: Number(time) }]);
    }
  }
  for (const all of byTask.values()) all.sort((a, b) => a.time - b.time);
  return byTask;
}

/** `agentcom-sidecar status`; what is not as it should be, or null. */
async function trouble(name) {
  const { code, out, err } = await runBeside(path.join(BIN, 'agentcom-sidecar'), ['status', '--json', '--config', at('agents', name, 'config.json')]);
  if (code !== 0) return `${name}: status ended with ${code}: ${err.trim()}`;
  const { phase, journal } = JSON.parse(out);
  if (phase === 'Idle' && journal.outbox.length === 0) return null;
  return `${name}: ${phase}, ${journal.outbox.length} verdicts in the outbox`;
}

/** Waits, with a bound, until all is quiet; what is not by then. */
async function settle(hub, names) {
  const notIdle = async () => {
    const { agents } = await hub.read('/api/agents');
    const idle = agents.filter((agent) => agent.fsm_state === 'idle').map((agent) => agent.agent_id);
    return names.filter((name) => !idle.includes(name));
  };
  const open = async () => {
    const { by_status: count } = await hub.read('/api/tasks/stats');
    return (count.queued || 0) + (count.assigned || 0);
  };
  const began = Date.now();
  while (Date.now() - began < SETTLE_S * 1000) {
    if ((await open()) === 0 && sessions().length === 0 && (await notIdle()).length === 0) break;
    await sleep(250);
  }
  const ended = Date.now();
  // Twice the time in which a sidecar looks at its folder by itself, without a file.
  for (let empty = Date.now(); Date.now() - empty < 2000 && Date.now() - ended < TIDY_S * 1000; await sleep(250)) {
    if (files(names).length > 0) empty = Date.now();
  }
  return { seconds: (Date.now() - began) / 1000, strangers: await notIdle() };
}

/** Why the task was woken once more: `right` where nobody could have known better. Decisive is what took it from the agent
 * whose session was at work on it. */
function why(before, after, history, proxies) {
  if (before.generation === after.generation) return { right: false, text: 'one assignment woke twice' };
  const of = (generation) => history.findIndex((entry) => entry.event === 'assigned' && entry.details.generation === generation);
  let [holder, taken] = [before.agent, null];
  for (const entry of history.slice(of(before.generation) + 1, of(after.generation))) {
    if (entry.event === 'assigned') holder = entry.details.agent_id;
    if (['retry', 'reclaimed'].includes(entry.event) && holder === before.agent) taken = entry;
  }
  if (!taken) return { right: false, text: `nothing took it from ${before.agent}` };
  const { event, timestamp, details } = taken;
  if (event === 'retry') {
    const shown = timestamp - before.time;
    // A session that began in time is no reason to fail for want of one.
    const right = !(details.includes('confirmation_timeout') && shown >= CONFIRMATION_MS);
    return { right, text: `${before.agent} failed (${details}), ${(shown / 1000).toFixed(1)} s after its session had begun` };
  }
  const away = proxies[before.agent].awayAt(timestamp);
  const text = `taken from ${before.agent} (${details.reason}), which had been away for ${(away / 1000).toFixed(1)} s`;
  return { right: away >= GRACE_MS - CLOCK_MS, text };
}

/** The history and the wakes of a task, for a person. */
function story(woken, history) {
  const lines = [
    ...history.map(({ timestamp: time, event, details }) => ({ time, text: `${event} ${JSON.stringify(details)}` })),
    ...woken.map(({ time, agent, generation }) => ({ time, text: `WOKEN at ${agent}, generation ${generation}` })),
  ].sort((a, b) => a.time - b.time);
  return lines.map(({ time, text }) => `      ${((time - lines[0].time) / 1000).toFixed(3).padStart(8)} s  ${text}`).join('\n');
}

/** Lines in which a program says that it has found a bug in itself, and journals that made no sense. */
function bugs(names) {
  const logs = fs.readdirSync(at('logs')).filter((name) => name.endsWith('.err.log') || name === 'hub.log');
  const panics = logs.flatMap((name) => {
    const lines = fs.readFileSync(at('logs', name), 'utf8').split('\n').filter((line) => line.includes('panicked at'));
    return lines.map((line) => `${name}: ${line.slice(0, 300)}`);
  });
  const kept = names.flatMap((name) => fs.readdirSync(at('agents', name)).map((file) => `${name}/${file}`));
  const corrupt = kept.filter((file) => file.includes('.corrupt-'));
  return [...panics, ...corrupt];
}

/** Everything that was found, each as lines for a person. */
async function judge(hub, names, proxies, submitted) {
  const { seconds, strangers } = await settle(hub, names);
  const tasks = await hub.tasks();
  const woken = wakes(names);
  const there = new Map(tasks.map((task) => [task.task_id, task]));
  const historyOf = async (id) => (await hub.read(`/api/tasks/${id}`)).history.reverse();

  const forgotten = submitted.filter((id) => !there.has(id)).map((id) => `${id}: the hub does not know it any more`);
  const open = tasks.filter((task) => task.status !== 'completed');
  const lost = [...forgotten];
  for (const { task_id: id, status } of open) lost.push(`${id}: ${status}\n${story(woken.get(id) || [], await historyOf(id))}`);
  const unknown = tasks.filter((task) => task.status === 'completed' && !woken.has(task.task_id));
  for (const { task_id: id } of unknown) lost.push(`${id}: completed, and no session knows of it`);

  const [twice, again] = [[], []];
  for (const [id, all] of [...woken].filter(([, all]) => all.length > 1)) {
    const history = there.has(id) ? await historyOf(id) : [];
    const reasons = all.slice(1).map((after, n) => why(all[n], after, history, proxies));
    const list = reasons.every(({ right }) => right) ? again : twice;
    list.push(`${id}: woken ${all.length} times: ${reasons.map(({ text }) => text).join('; ')}\n${story(all, history)}`);
  }
  const left = files(names);
  const rejected = files(names, 'rejected');
  const troubles = [];
  for (const name of names) troubles.push(await trouble(name));
  return {
    seconds,
    tasks: tasks.length,
    sessions: [...woken.values()].reduce((sum, all) => sum + all.length, 0),
    noted: { 'woken again, rightly': again, 'results put aside (results/rejected)': rejected },
    missed: {
      lost,
      'done twice': twice,
      'files left': left,
      'agents not idle, or with verdicts': troubles.filter(Boolean),
      'agents that the hub does not list as idle': strangers,
      'ends of the hub by itself': hub.ownEnds,
      'bugs that a program found in itself': bugs(names),
    },
  };
}

module.exports = { judge };
