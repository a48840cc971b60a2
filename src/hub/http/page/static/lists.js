// Tasks, restarts and the audit: lists that are asked for, searched, and read page by page.

import { get, post, segment } from './api.js';
import { count, fill, h, may, say } from './dom.js';
import { fillForm, input, open } from './actions.js';
import { agentLink, facts, failed, histogram, output, spoken, state, table } from './parts.js';
import { ago, took } from './time.js';
import { timeline } from './timeline.js';

const PAGE = 100;

/** A list of `path` with filters that stand in the address, and what is loaded of it searched by text. */
async function list(view, url, go, { title, path, filters, columns, row, above }) {
  const params = Object.fromEntries(filters.map(({ name, fixed }) => [name, url.searchParams.get(name) ?? fixed ?? '']));
  const body = h('div');
  const top = h('div');
  const find = h('input', {
    type: 'search',
    id: 'find',
    value: url.searchParams.get('find') ?? '',
    'data-search': true,
    oninput: () => show(),
    autocomplete: 'off',
  });
  const found = h('span.quiet', { role: 'status' });
  const more = h('button', { type: 'button', onclick: () => read() }, 'Load more');
  const items = [];
  let cursor = null;

  const apply = (event) => {
    event.preventDefault();
    const asked = new URLSearchParams();
    for (const { name } of filters) if (form.elements[name]?.value) asked.set(name, form.elements[name].value);
    if (find.value.trim()) asked.set('find', find.value.trim());
    go(`${url.pathname}${asked.size ? `?${asked}` : ''}`);
  };
  const form = h(
    'form.asked',
    { onsubmit: apply },
    filters.filter((it) => !it.fixed).map((it) => input({ ...it, value: params[it.name] })),
    h('button', { type: 'submit' }, 'Show'),
    h('div.field', null, h('label', { for: 'find' }, 'Find in these'), find),
  );

  function show() {
    const wanted = find.value.trim().toLowerCase();
    const those = wanted ? items.filter((it) => JSON.stringify(it).toLowerCase().includes(wanted)) : items;
    fill(
      body,
      those.length
        ? table(title, columns, those, row)
        : h('p.quiet', null, items.length ? 'None of those that are loaded.' : 'There is none.'),
    );
    found.textContent = `${wanted ? `${those.length} of ` : ''}${count(items.length, 'entry').replace('entrys', 'entries')}${cursor ? ', and more' : ''}`;
    more.hidden = !cursor;
    if (above) fill(top, above(those));
  }

  async function read() {
    try {
      const page = await get(path, { ...params, limit: PAGE, cursor });
      items.push(...page.items);
      cursor = page.next_cursor;
      show();
    } catch (error) {
      failed(body, error, read);
    }
  }
  fill(view, h('h1', null, title), form, top, body, h('p.more', null, more, ' ', found));
  await read();
}

const choice = (name, label, codes) => ({ name, label, options: [['', 'any'], ...codes.map((code) => [code, spoken(code)])] });

/** Details in words: a text as it is, an object by its fields. */
const told = (it) => {
  if (it == null || typeof it !== 'object') return String(it ?? '');
  return Object.entries(it)
    .map(([key, value]) => `${spoken(key)} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ');
};

const TASK_COLUMNS = [
  { head: 'Task', class: 'name', cell: (it) => h('a', { href: `/dashboard/tasks?id=${segment(it.task_id)}` }, it.task_id) },
  { head: 'Status', cell: (it) => state(it.status) },
  { head: 'Agent', cell: (it) => it.assigned_to && agentLink(it.assigned_to) },
  { head: 'What', class: 'wide', cell: (it) => it.description.slice(0, 200) },
  { head: 'Lane', cell: (it) => ['urgent', 'high', 'normal', 'low'][it.priority] },
  { head: 'Changed', cell: (it) => ago(it.updated_at) },
];

function waiting(it) {
  if (!it) return null;
  const words = {
    agent: `for ${it.agent_id}, which is ${spoken(it.status ?? 'not known')}`,
    capabilities: `for ${(it.missing ?? []).join(', ') || (it.needed ?? []).join(', ')}, which no connected agent has`,
    draining_agents: `${it.agents} could do it, and all are drained`,
    idle_agent: `${it.agents} could do it, and none is free`,
    any_agent: 'no agent is connected',
  };
  return words[it.what] ?? spoken(it.what);
}

async function task(view, id) {
  const it = await get(`tasks/${segment(id)}`);
  const name = document.body.dataset.name;
  const can = may('tasks') || it.submitted_by === name;
  const acts = { queued: ['cancel'], assigned: ['cancel'], dead_letter: ['retry'] }[it.status] ?? [];
  const ask = (what) =>
    open(`${what === 'cancel' ? 'Cancel' : 'Retry'} this task`, (dialog, close) => {
      const perform = () => post(`tasks/${segment(id)}/${what}`, {});
      const then = () => {
        say(`${what}: done`);
        task(view, id).catch((error) => failed(view, error));
      };
      fillForm(dialog, close, { parts: h('p', null, h('code', null, id)), label: what, perform, then });
    });
  const history = [
    { head: 'When', cell: (entry) => ago(entry.timestamp) },
    { head: 'Event', cell: (entry) => spoken(entry.event) },
    { head: 'What', class: 'wide', cell: (entry) => told(entry.details) },
  ];
  fill(
    view,
    h('p.crumb', null, h('a', { href: '/dashboard/tasks' }, 'Tasks')),
    h('h1', null, id),
    h('p.standing', null, state(it.status), ' ', ago(it.updated_at), it.last_error && `: ${it.last_error}`),
    can &&
      acts.length > 0 &&
      h(
        'div.actions',
        null,
        acts.map((what) => h('button', { type: 'button', onclick: () => ask(what) }, `${what} \u2026`)),
      ),
    facts([
      ['waits', waiting(it.waiting_for)],
      ['agent', it.assigned_to && agentLink(it.assigned_to)],
      ['generation', it.generation],
      ['losses', it.losses || null],
      ['failures', it.retry_count || null],
      ['submitted', [ago(it.created_at), ` by ${it.submitted_by}`]],
    ]),
    h('h2', null, 'What is to be done'),
    output(it.description, 'description'),
    it.result != null && [h('h2', null, 'Result'), output(JSON.stringify(it.result, null, 2), 'result')],
    h('h2', null, 'What happened to it'),
    table('History', history, it.history),
  );
}

export function tasks(view, url, go) {
  const id = url.searchParams.get('id');
  if (id) return task(view, id);
  return list(view, url, go, {
    title: 'Tasks',
    path: 'tasks',
    columns: TASK_COLUMNS,
    filters: [
      choice('status', 'Status', ['queued', 'assigned', 'completed', 'dead_letter', 'cancelled']),
      { name: 'assigned_to', label: 'Agent' },
      { name: 'goal_id', label: 'Goal' },
    ],
  });
}

/** The bounds of the histogram of gaps, in ms. */
const GAPS = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000];

function gaps(items) {
  const known = items.map((it) => it.gap_ms).filter((ms) => ms != null);
  if (known.length < 2) return null;
  const rows = [...GAPS, Infinity].map((most, at) => ({
    name: most === Infinity ? `over ${took(GAPS.at(-1))}` : `up to ${took(most)}`,
    n: known.filter((ms) => ms <= most && ms > (GAPS[at - 1] ?? -1)).length,
  }));
  const [from, to] = [rows.findIndex((it) => it.n), rows.findLastIndex((it) => it.n)];
  const middle = known.sort((a, b) => a - b)[Math.floor(known.length / 2)];
  return h(
    'section',
    null,
    h('h2', null, 'Gaps'),
    h('p.quiet', null, `Half of ${known.length} were away for ${took(middle)} or less.`),
    histogram('Gaps', rows.slice(from, to + 1)),
  );
}

const PHASES = ['commanded', 'delivered', 'accepted', 'draining', 'exiting', 'back', 'refused', 'overdue', 'revoked', 'withdrawn'];

export const restarts = (view, url, go) =>
  list(view, url, go, {
    title: 'Restarts',
    path: 'restarts',
    above: gaps,
    filters: [
      { name: 'agent_id', label: 'Agent' },
      choice('state', 'State', PHASES),
      {
        name: 'open',
        label: 'Open',
        options: [
          ['', 'any'],
          ['true', 'go on'],
          ['false', 'have ended'],
        ],
      },
    ],
    columns: [
      { head: 'Agent', class: 'name', cell: (it) => agentLink(it.agent_id) },
      { head: 'State', cell: (it) => [state(it.state), it.force && h('small', null, ' forced')] },
      { head: 'When', cell: (it) => ago(it.commanded_at) },
      { head: 'By', cell: (it) => it.by },
      { head: 'Reason', cell: (it) => it.reason },
      { head: 'Gap', class: 'n', cell: (it) => it.gap_ms != null && took(it.gap_ms) },
      { head: 'Where the time went', class: 'wide', cell: (it) => timeline([it], []).firstChild.children[1] },
    ],
  });

export const audit = (view, url, go) =>
  list(view, url, go, {
    title: 'Audit',
    path: 'audit',
    filters: [
      { name: 'who', label: 'Who' },
      { name: 'action', label: 'Action' },
      { name: 'target', label: 'Target' },
    ],
    columns: [
      { head: 'When', cell: (it) => ago(it.at_ms) },
      { head: 'Who', class: 'name', cell: (it) => [it.who, h('small.word', null, ` ${it.role ?? ''} ${it.via}`)] },
      { head: 'What', class: 'word', cell: (it) => spoken(it.action) },
      { head: 'To', cell: (it) => it.target },
      { head: 'Why', class: 'wide', cell: (it) => [it.reason, it.selector && h('code', null, ` ${it.selector}`)] },
      { head: 'Change', cell: (it) => [it.old != null && `${told(it.old)} `, it.new != null && `\u2192 ${told(it.new)}`] },
    ],
  });
