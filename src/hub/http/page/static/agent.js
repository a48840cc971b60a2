// One agent: how it does and why, its state in the machine, its task, its restarts.

import { act } from './actions.js';
import { get, segment } from './api.js';
import { fill, h, may } from './dom.js';
import { facts, failed, output, state, why } from './parts.js';
import { follow } from './stream.js';
import { ago, stamp } from './time.js';
import { timeline } from './timeline.js';
import { selectorOf } from './trouble.js';

/** The agent's time line shows so many restarts. */
const RESTARTS = 10;
const REREAD_MS = 5_000;

/** The machine's state, as far as the hub knows it; null while the agent is away. */
export function phaseOf(agent) {
  const step = agent.restart?.state;
  if (step === 'exiting') return 'Exiting';
  if (!agent.connected) return null;
  if (step === 'draining' || (!step && agent.fsm_state === 'restarting')) return 'Draining';
  const holds = agent.task?.held;
  if (step === 'accepted') return holds ? 'RestartPending' : 'Draining';
  return holds ? 'Working' : 'Idle';
}

/** What happens next, in words. */
function waitsFor(agent, phase, restart) {
  if (restart) {
    const due = [' Overdue ', ago(restart.overdue_at), '.'];
    if (phase === 'RestartPending') return ['It finishes its task, then it restarts.', due];
    if (phase === 'Draining') return ['It sends what is left, and closes its connection.', due];
    if (phase === 'Exiting' || !phase) return ['Its process has ended; its supervisor starts the next one.', due];
    return [`The restart is ${restart.state}: it has not answered yet.`, due];
  }
  if (!phase) return ['It is away: ', why(agent.why), '.'];
  if (phase === 'Working') return ['Its session works; the result is awaited.'];
  if (agent.drain.hub || agent.drain.own) return ['It is drained: it gets no task until it is resumed.'];
  return ['A task, or a command.'];
}

function machine(agent, restart) {
  const phase = phaseOf(agent);
  const drawn = document.getElementById('machine').content.cloneNode(true).firstChild;
  for (const box of drawn.querySelectorAll('[data-phase]')) box.classList.toggle('lit', box.dataset.phase === phase);
  for (const line of drawn.querySelectorAll('.move')) line.classList.toggle('next', line.dataset.from === phase);
  drawn.setAttribute('aria-label', `The states of a sidecar. It is ${phase ? `in ${phase}` : 'away'}.`);
  const next = [...drawn.querySelectorAll('.move.next title')].map((it) => it.textContent);
  return h(
    'section',
    null,
    h('h2', null, 'State'),
    drawn,
    h('p', null, h('strong', null, phase ?? 'away'), '. ', waitsFor(agent, phase, restart)),
    next.length > 0 &&
      h(
        'details',
        null,
        h('summary', null, 'What may come next'),
        h(
          'ul',
          null,
          next.map((text) => h('li', null, text)),
        ),
      ),
  );
}

function task(agent) {
  const it = agent.task;
  if (!it) return h('section', null, h('h2', null, 'Task'), h('p.quiet', null, 'It has reported of none yet.'));
  const done = h('progress', { max: 100, value: it.progress ?? 0, 'aria-label': 'progress' });
  return h(
    'section',
    null,
    h('h2', null, 'Task'),
    facts([
      ['id', h('a', { href: `/dashboard/tasks?id=${segment(it.task_id)}` }, it.task_id)],
      ['is', it.held ? (it.accepted ? 'in hand' : 'assigned, not accepted yet') : 'over'],
      ['progress', it.progress != null && [done, ` ${it.progress} %`]],
      ['last sign of life', it.last_sign_of_life_at && ago(it.last_sign_of_life_at)],
      ['silent since', it.silent_since && ago(it.silent_since)],
    ]),
    it.output && [h('h3', null, it.output_cut ? 'The end of its output' : 'Its output'), output(it.output, 'output of the task')],
  );
}

function drains(agent) {
  const { own, hub } = agent.drain;
  if (!own && !hub) return null;
  return h(
    'section.drained',
    null,
    h('h2', null, 'Drained'),
    own && h('p', null, 'By an operator on its machine (there: ', h('code', null, 'agentcom-sidecar resume'), ').'),
    hub &&
      h(
        'p',
        null,
        `By ${hub.by}, `,
        ago(hub.since),
        hub.reason && `: ${hub.reason}`,
        hub.until ? [', until ', stamp(hub.until)] : ', until it is resumed',
        hub.deadline && [`, its task done by ${stamp(hub.deadline)}`, hub.overdue && h('b', null, ' (overdue)')],
        '.',
      ),
  );
}

function about(agent) {
  const close = agent.last_close;
  const labels = Object.entries(agent.labels).map(([key, value]) => {
    // A key may be named as what each object has.
    const given = Object.hasOwn(agent.operator_labels ?? {}, key) ? agent.operator_labels[key] : null;
    return h('span.label', { title: given ? `by ${given.by}, ${stamp(given.at)}` : 'its own' }, `${key}=${value}`);
  });
  const { planned, unplanned } = agent.restarts;
  return h(
    'section',
    null,
    h('h2', null, 'About'),
    facts([
      ['connected', agent.connected && [ago(agent.connected_at), ` from ${agent.address}`]],
      ['away', !agent.connected && agent.away_since && [ago(agent.away_since), agent.address && `, last at ${agent.address}`]],
      ['says', agent.status_text],
      [
        'last closed',
        close && [
          ago(close.at),
          ` by ${close.by}, ${why(close.why)}`,
          close.code && ` (${close.code})`,
          close.reason && `: ${close.reason}`,
        ],
      ],
      ['restarts', `${planned} planned, ${unplanned} unplanned`],
      ['two sidecars', agent.identity_conflict && h('b', null, (agent.identity_conflict.addresses ?? []).join(' and '))],
      ['labels', labels.length > 0 && labels],
      ['capabilities', agent.capabilities?.join(', ')],
      ['version', agent.version && `${agent.version} (${agent.client_type ?? 'unknown client'})`],
      ['run', agent.boot_id],
      ['first seen', agent.first_seen && ago(agent.first_seen)],
    ]),
  );
}

export async function show(view, url, go, id) {
  const selector = selectorOf([id]);
  let live = null;
  const again = () => live?.again();
  const mayRestart = may('restart') || (may('restart-itself') && document.body.dataset.name === id);
  const head = h('div');
  const main = h('div.columns');
  const past = h('section', null, h('h2', null, 'Restarts'));
  const list = h('div');
  past.append(list);
  const actions = h(
    'div.actions',
    null,
    mayRestart && h('button.main', { type: 'button', onclick: () => act('restart', selector, again) }, 'Restart \u2026'),
    may('drain') && [
      h('button', { type: 'button', onclick: () => act('drain', selector, again) }, 'Drain \u2026'),
      h('button', { type: 'button', onclick: () => act('resume', selector, again) }, 'Resume \u2026'),
    ],
  );
  fill(view, h('p.crumb', null, h('a', { href: '/dashboard' }, 'Fleet')), h('h1', null, id), head, actions, past, main);
  let keep = null;

  function showRestarts({ items }, known) {
    if (!items) fill(list, h('p.quiet', null, 'Your role does not read the restarts of others.'));
    else if (items.length + known.length) fill(list, timeline(items, known));
    else fill(list, h('p.quiet', null, 'None yet: each will be a bar here, with where its time went.'));
  }

  async function read() {
    const [agent, restarts] = await Promise.all([
      get(`agents/${segment(id)}`),
      get('restarts', { agent_id: id, limit: RESTARTS }).catch((error) => (error.status === 403 ? { items: null } : Promise.reject(error))),
    ]);
    const seen = JSON.stringify([{ ...agent, last_seen: 0, resources: 0 }, restarts]);
    const newest = restarts.items?.find((it) => it.open);
    // The bar of a restart that goes on grows, whatever else has changed.
    if (seen !== keep || newest) showRestarts(restarts, agent.past_restarts ?? []);
    // What has not changed stays, with what somebody has marked in it or scrolled to.
    if (seen === keep) return;
    keep = seen;
    fill(head, h('p.standing', null, state(agent.status), ' for ', ago(agent.since, true), ': ', why(agent.why)));
    const open = main.querySelector('details[open]') != null;
    fill(main, h('div', null, machine(agent, newest), drains(agent)), h('div', null, task(agent), about(agent)));
    if (open) main.querySelector('details')?.setAttribute('open', '');
  }

  try {
    live = await follow(read, (_, data) => data.agent_id === id);
  } catch (error) {
    if (error.status === 404)
      fill(
        view,
        h('p.crumb', null, h('a', { href: '/dashboard' }, 'Fleet')),
        h('h1', null, id),
        h('p', null, 'No agent of this name is known, or its last token was revoked.'),
      );
    else failed(view, error, () => go(location.href));
    return null;
  }
  const timer = setInterval(() => document.hidden || live.again(), REREAD_MS);
  return () => {
    live.stop();
    clearInterval(timer);
  };
}
