#!/usr/bin/env node
// Version 0.1.0 beside today's, as real processes: each one's sidecar at the other's hub, its store and journal in today's
// hands, and today's in its own, which it must refuse.
//
//   node tests/tools/old_version.js            builds both, tells every story in a line (exit 1 when one fails)
//   node tests/tools/old_version.js cut        the stories with this in their name
//
// OLD_VERSION_PROFILE=release builds both with --release. What a failed story leaves behind stays where its line says.

'use strict';

const fs = require('fs');
const path = require('path');
const { build, TOP } = require('./old_version/builds');
const { Stage, check } = require('./old_version/stage');

const STORIES = [];
const story = (name, tell) => STORIES.push({ name, tell });

/** Two agents that can do the same tasks. */
async function two(stage, version) {
  return [await stage.agent('alice', version), await stage.agent('bob', version)];
}

function back(record) {
  check(record.state === 'back', 'the restart ends as `back`', record);
}

/** The schema number of an agent's journal: which version wrote it last. */
function wroteLast(agent, version) {
  const schema = version === 'old' ? 1 : 2;
  check(agent.journal().schema === schema, `${agent.name}'s journal has schema ${schema}`, agent.journal().schema);
}

// Each version's sidecars at the other's hub. The hub of 0.1.0 takes the task of an agent whose socket drops away at once,
// and gives it to the other one: two wakes are its own rule.
for (const { sidecars, hub, dropped } of [
  { sidecars: 'old', hub: 'today', dropped: { wakes: 'one' } },
  { sidecars: 'today', hub: 'old', dropped: { wakes: 'at least one' } },
]) {
  const who = sidecars === 'old' ? "0.1.0's sidecars at today's hub" : "today's sidecars at 0.1.0's hub";
  const pair = (name, tell) =>
    story(`${who}: ${name}`, async (stage) => {
      await stage.startHub(hub);
      await two(stage, sidecars);
      await tell(stage);
      await stage.nobodyIsStuck();
      for (const agent of stage.agents) wroteLast(agent, sidecars);
    });

  pair('onboard, and a task', async (stage) => {
    const id = await stage.hub.submit({ description: 'start=0.1 run=0.1' });
    const task = await stage.done(id);
    check(task.result && task.result.output === `done ${id}`, 'the result is there', task.result);
  });

  pair('a restart of an idle agent', async (stage) => {
    const command = await stage.hub.restart('alice');
    back(await stage.hub.restarted('alice', command));
  });

  pair('a restart while it works', async (stage) => {
    const { id, holder } = await stage.holding();
    const command = await stage.hub.restart(holder.name);
    await stage.until('the restart to be accepted', async () => {
      const [record] = await stage.hub.restarts(holder.name);
      return record.steps.some(({ step }) => step === 'accepted');
    });
    stage.release(id);
    back(await stage.hub.restarted(holder.name, command));
    await stage.done(id);
  });

  pair('a restart by force while it works', async (stage) => {
    const { id, holder } = await stage.holding();
    const command = await stage.hub.restart(holder.name, { force: true });
    back(await stage.hub.restarted(holder.name, command));
    check((await stage.hub.task(id)).assigned_to === holder.name, 'the task stays with its agent', await stage.hub.task(id));
    stage.release(id);
    await stage.done(id);
  });

  pair('kill -9 of the sidecar while it works', async (stage) => {
    const { id, holder } = await stage.holding();
    const before = await stage.hub.agent(holder.name);
    await holder.kill();
    holder.start();
    await stage.connectedAgain(holder, before);
    stage.release(id);
    await stage.done(id, dropped);
  });

  pair('kill -9 of the hub while an agent works', async (stage) => {
    const { id } = await stage.holding();
    await stage.stopHub('SIGKILL');
    await stage.startHub(hub);
    stage.connect();
    for (const agent of stage.agents) await stage.connectedAgain(agent);
    stage.release(id);
    await stage.done(id);
  });

  pair('kill -9 of the hub, and the task ends while it is away', async (stage) => {
    const { id, holder } = await stage.holding();
    await stage.stopHub('SIGKILL');
    stage.release(id);
    await stage.until('the verdict to wait in the journal', () => holder.journal().outbox.some((verdict) => verdict.task_id === id));
    await stage.startHub(hub);
    stage.connect();
    await stage.done(id);
  });

  pair('a cut connection while it works', async (stage) => {
    const { id, holder } = await stage.holding();
    const before = await stage.hub.agent(holder.name);
    holder.link.cut();
    await stage.connectedAgain(holder, before);
    stage.release(id);
    await stage.done(id, dropped);
  });
}

/** The first place where `now` does not show what `then` did. What it shows beside that does not count. */
function difference(then, now, place = '') {
  if (then === null || typeof then !== 'object') return then === now ? undefined : `${place}: ${JSON.stringify(then)} is ${JSON.stringify(now)}`;
  if (now === null || typeof now !== 'object') return `${place}: ${JSON.stringify(then)} is ${JSON.stringify(now)}`;
  if (Array.isArray(then) && then.length !== now.length) return `${place}: ${then.length} entries are ${now.length}`;
  return Object.keys(then).map((key) => difference(then[key], now[key], `${place}/${key}`)).find(Boolean);
}

/** All that a hub shows of what it has stored. (When a token was used last is noted with a delay, and asking is a use.) */
async function shownBy(hub, agents) {
  const { tasks } = await hub.get('/api/tasks');
  return {
    tasks,
    histories: await Promise.all(tasks.map(({ id }) => hub.task(id))),
    deadLetters: await hub.get('/api/tasks/dead-letter'),
    stats: await hub.get('/api/tasks/stats'),
    restarts: await Promise.all(agents.map(({ name }) => hub.restarts(name))),
    tokens: JSON.parse(JSON.stringify(await hub.get('/admin/tokens'), (key, value) => (key === 'last_used_at' ? undefined : value))),
    repository: await hub.get('/api/config/default-repo'),
  };
}

/** Tasks in each state, restarts, tokens and a setting; answers the task that an agent is at work on, and the queued one. */
async function fill(stage) {
  const { hub } = stage;
  const [alice] = stage.agents;
  await stage.done(await hub.submit({ description: 'run=0', metadata: { deep: [[1.5, null, { k: 'v' }]] } }));
  const dead = await hub.submit({ description: 'run=0 fail', max_retries: 0 });
  await stage.until('a dead letter', async () => (await hub.task(dead)).status === 'dead_letter');
  back(await hub.restarted('alice', await hub.restart('alice')));
  const cancelled = await hub.submit({ description: 'run=0', assign_to: 'carol' });
  await hub.expect(200, 'POST', `/api/tasks/${cancelled}/cancel`);
  const queued = await hub.submit({ description: 'run=0', assign_to: 'carol', priority: 'high' });
  await hub.expect(201, 'POST', '/admin/tokens', { agent_id: 'spare' });
  await hub.expect(201, 'POST', '/admin/tokens', { agent_id: 'revoked' });
  await hub.expect(200, 'DELETE', '/admin/tokens/revoked');
  await hub.expect(200, 'PUT', '/api/config/default-repo', { url: 'https://example.org/repo.git' });
  await stage.idle(alice);
  const { id } = await stage.holding({ assign_to: 'alice' });
  return { id, queued };
}

for (const signal of ['SIGKILL', 'SIGTERM']) {
  story(`a store of 0.1.0, whose hub ended by ${signal}, at today's hub`, async (stage) => {
    await stage.startHub('old');
    await two(stage, 'old');
    const { id, queued } = await fill(stage);
    const then = await shownBy(stage.hub, stage.agents);
    const states = new Set(then.tasks.map(({ status }) => status));
    for (const state of ['queued', 'assigned', 'completed', 'dead_letter', 'cancelled']) check(states.has(state), `a task is ${state}`, [...states]);
    await stage.stopHub(signal);
    await stage.startHub('today');
    const differs = difference(then, await shownBy(stage.hub, stage.agents));
    check(!differs, "today's hub shows the same", differs);
    stage.connect();
    await stage.connectedAgain(stage.agents[0]);
    stage.release(id);
    const task = await stage.done(id);
    check(stage.agents[0].wakes(id) === 1, 'the assigned task is finished by its agent', task);
    // A token of 0.1.0 still submits; the queued task waits for an agent that was not there before.
    await stage.hub.expect(201, 'POST', '/api/tasks', { description: 'run=0', assign_to: 'bob' }, stage.agents[1].token);
    await stage.agent('carol', 'old');
    await stage.done(queued);
    await stage.nobodyIsStuck();
  });
}

// A sidecar of 0.1.0 that becomes today's in mid-task.
function upgrade(name, agents, tell, hub = 'today') {
  story(`a journal of 0.1.0${hub === 'old' ? ", at 0.1.0's hub" : ''}: ${name}`, async (stage) => {
    await stage.startHub(hub);
    for (const agent of agents) await stage.agent(agent, 'old');
    const { id, holder } = await stage.holding();
    wroteLast(holder, 'old');
    await tell(stage, id, holder);
    await stage.nobodyIsStuck();
    wroteLast(holder, 'today');
  });
}

for (const agents of [['alice'], ['alice', 'bob']]) {
  const others = agents.length === 1 ? 'no other agent is there' : 'another agent is idle';
  upgrade(`kill -9 while it works, and today's goes on (${others})`, agents, async (stage, id, holder) => {
    const before = await stage.hub.agent(holder.name);
    await holder.kill();
    holder.install('today');
    holder.start();
    await stage.connectedAgain(holder, before);
    stage.release(id);
    await stage.done(id);
  });
}

upgrade('kill -9 with a verdict that waits for the hub', ['alice', 'bob'], async (stage, id, holder) => {
  await stage.stopHub('SIGKILL');
  stage.release(id);
  await stage.until('the verdict to wait in the journal', () => holder.journal().outbox.some((verdict) => verdict.task_id === id));
  await holder.kill();
  holder.install('today');
  holder.start();
  await stage.startHub('today');
  stage.connect();
  await stage.done(id);
});

for (const hub of ['today', 'old']) {
  for (const force of [false, true]) {
    const replaced = async (stage, id, holder) => {
      holder.install('today');
      const command = await stage.hub.restart(holder.name, { force });
      if (!force) stage.release(id);
      back(await stage.hub.restarted(holder.name, command));
      stage.release(id);
      await stage.done(id);
    };
    upgrade(`replaced by \`mv\`, and a restart ${force ? 'by force ' : ''}while it works`, ['alice', 'bob'], replaced, hub);
  }
}

/** The program refuses a file of a newer one: it ends with this code, says these words, and listens nowhere. */
async function refuses(stage, program, args, code, words) {
  const done = await stage.command(program, args);
  check(done.code === code && words.every((word) => done.said.includes(word)), `${path.basename(program)} ${args[0]} exits with ${code} and says "${words.join('", "')}"`, done);
  check(!done.said.includes('"listening"'), 'it does not listen', done.said);
}

// It refuses before it changes a record. Bytes of the file change all the same: its redb notes that the file was open.
for (const signal of ['SIGKILL', 'SIGTERM']) {
  story(`downgrade: 0.1.0's hub on a store that today's, ended by ${signal}, has opened`, async (stage) => {
    await stage.startHub('old');
    await two(stage, 'old');
    const { id } = await fill(stage);
    await stage.stopHub('SIGTERM');
    await stage.startHub('today');
    const then = await shownBy(stage.hub, stage.agents);
    await stage.stopHub(signal);
    const { hub } = stage.programs.old;
    const words = ['hub.redb has schema 3, this hub knows 1', 'run the newer hub that wrote it'];
    await refuses(stage, hub, ['serve', '--listen', '127.0.0.1:0', '--data', stage.data], 78, words);
    await refuses(stage, hub, ['token', 'late', '--data', stage.data], 78, words);
    await stage.startHub('today');
    const differs = difference(then, await shownBy(stage.hub, stage.agents));
    check(!differs, "today's hub shows the same again", differs);
    stage.connect();
    await stage.connectedAgain(stage.agents[0]);
    stage.release(id);
    await stage.done(id);
    await stage.nobodyIsStuck();
  });
}

story("downgrade: 0.1.0's sidecar on a journal of today's", async (stage) => {
  await stage.startHub('today');
  const alice = await stage.agent('alice', 'today');
  const { id } = await stage.holding();
  await alice.kill();
  const before = fs.readFileSync(alice.at('queue.json'));
  const words = ["queue.json: schema 2 is a newer sidecar's", 'start that version'];
  alice.install('old');
  await refuses(stage, alice.program, ['run', '--config', alice.at('config.json')], 74, words);
  check(fs.readFileSync(alice.at('queue.json')).equals(before), 'no byte of the journal is changed', alice.journal());
  const aside = fs.readdirSync(alice.folder).filter((name) => name.startsWith('queue.json.corrupt'));
  check(aside.length === 0, 'it is not moved aside', aside);
  alice.install('today');
  const known = await stage.hub.agent('alice');
  alice.start();
  await stage.connectedAgain(alice, known);
  stage.release(id);
  await stage.done(id);
  await stage.nobodyIsStuck();
});

story("downgrade: 0.1.0's sidecar in the place of today's by `mv`, and a restart while it works", async (stage) => {
  await stage.startHub('today');
  await two(stage, 'today');
  const { id, holder } = await stage.holding();
  holder.install('old');
  const command = await stage.hub.restart(holder.name);
  const record = await stage.hub.restarted(holder.name, command);
  const said = JSON.stringify(record);
  check(record.state === 'refused' && said.includes("schema 2 is a newer sidecar's"), 'the restart is refused, with the reason', record);
  stage.release(id);
  await stage.done(id);
  await stage.nobodyIsStuck();
  wroteLast(holder, 'today');
});

story("downgrade: today's sidecar drained, its journal moved away, then 0.1.0's", async (stage) => {
  await stage.startHub('today');
  const alice = await stage.agent('alice', 'today');
  await stage.done(await stage.hub.submit({ description: 'run=0' }));
  const drained = await stage.command(alice.program, ['drain', '--wait', '--config', alice.at('config.json')]);
  check(drained.code === 0, 'it drains', drained);
  const known = await stage.hub.agent('alice');
  await alice.process.signal('SIGTERM');
  fs.renameSync(alice.at('queue.json'), alice.at('queue.json.newer'));
  alice.install('old');
  alice.start();
  await stage.connectedAgain(alice, known);
  await stage.nobodyIsStuck();
  wroteLast(alice, 'old');
});

// With the flags of 0.1.0. What it passes as `Host` is what an unknown client of the hub is judged by.
for (const { passes, headers, isNamed } of [
  { passes: 'the name that it is asked by', headers: ['Host hub.example.org', 'X-Forwarded-For $remote_addr'], isNamed: true },
  { passes: 'its own address of the hub, as by default', headers: [], isNamed: false },
]) {
  story(`0.1.0's fleet behind nginx, which passes ${passes}`, async (stage) => {
    await stage.startHub('old');
    const hub = await stage.startNginx(headers);
    const [alice, bob] = await two(stage, 'old');
    const { id, holder } = await stage.holding();
    const before = await hub.agents();
    await stage.stopHub('SIGTERM');
    await stage.startHub('today');
    stage.connect();
    for (const agent of stage.agents) await stage.connectedAgain(agent, before.find((it) => it.agent_id === agent.name));
    stage.release(id);
    await stage.done(id);
    check(holder.wakes(id) === 1, 'the task stays with its agent', holder.name);
    back(await hub.restarted('alice', await hub.restart('alice')));
    await stage.done(await hub.submit({ description: 'run=0' }));
    await hub.expect(200, 'GET', '/api/agents', undefined, alice.token);
    const looked = await stage.command(bob.program, ['check', '--config', bob.at('config.json')]);
    check(looked.said.includes('a WebSocket opens there') && looked.said.includes("takes it as"), "0.1.0's `check` finds the hub and its token well", looked);

    if (isNamed) {
      const refused = await hub.expect(421, 'GET', '/api/agents', undefined, null);
      check(refused.error === 'unknown_host' && refused.hint.includes('--public-url'), 'a stranger is told of --public-url', refused);
      const onboarded = await stage.stranger('late', 'old').askToOnboard();
      stage.agents.pop().link.close();
      check(onboarded.code !== 0 && onboarded.said.includes('421'), "0.1.0's `onboard` ends with the hub's 421", onboarded);
      check(stage.hub.process.said().includes('give --public-url'), "the hub's log says what to do", undefined);
      await stage.stopHub('SIGTERM');
      await stage.startHub('today', ['--public-url', 'http://hub.example.org']);
      stage.connect();
    }
    await hub.expect(200, 'GET', '/api/agents', undefined, null);
    await stage.agent('carol', 'old');
    await stage.nobodyIsStuck();
    for (const agent of stage.agents) wroteLast(agent, 'old');
  });
}

async function tell({ name, tell }, programs) {
  const [stage, began] = [new Stage(TOP, programs), Date.now()];
  let failed;
  try {
    await tell(stage);
  } catch (error) {
    failed = error;
  }
  await stage.clear(failed);
  const seconds = `${((Date.now() - began) / 1000).toFixed(1)} s`;
  console.log(failed ? `FAILED  ${name} (${seconds}): ${failed.message}; see ${stage.folder}` : `ok      ${name} (${seconds})`);
  return !failed;
}

async function main() {
  const wanted = STORIES.filter(({ name }) => name.includes(process.argv[2] || ''));
  check(wanted.length > 0, 'a story has this in its name', process.argv[2]);
  const programs = build();
  let passed = 0;
  for (const story of wanted) passed += await tell(story, programs);
  console.log(`${passed} of ${wanted.length} stories hold`);
  process.exitCode = passed === wanted.length ? 0 : 1;
}

main().catch((error) => {
  console.error(`old_version: ${error.message}`);
  process.exitCode = 1;
});
