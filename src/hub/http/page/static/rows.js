// The table of the fleet: a row an agent, which changes in place, and moves only when nobody is at it.

import { fill, h } from './dom.js';
import { STATUSES, agentLink, spoken, state, why } from './parts.js';
import { ago, took } from './time.js';

const RANK = Object.keys(STATUSES);
/** More changed cells at once are not marked. */
const MOST_MARKED = 30;

const COLUMNS = [
  ['', 'pick'],
  ['Agent', 'name'],
  ['Status', 'status'],
  ['Phase', 'phase'],
  ['Task', 'task'],
  ['Link', 'link'],
  ['Version', 'version'],
  ['Last restart', 'last'],
  ['Labels', 'labels'],
];

/** What each cell of a row says. */
const CELLS = {
  status: (it) => state(it.status),
  phase: (it) => [
    it.restart ? `restart ${it.restart.state}` : it.connected && spoken(it.fsm_state),
    (it.drain.hub || it.drain.own) && h('small', null, ' drained'),
  ],
  task: (it) =>
    it.task?.held && [
      h('a', { href: `/dashboard/tasks?id=${encodeURIComponent(it.task.task_id)}`, title: it.task.task_id }, it.task.task_id.slice(0, 12)),
      it.task.progress != null && ` ${it.task.progress} %`,
      ' ',
      it.task.silent_since && h('small', { title: 'so long without output' }, ago(it.task.silent_since, true)),
    ],
  link: (it) =>
    it.status === 'healthy'
      ? ['up ', ago(it.connected_at, 'coarse')]
      : [h('span', { title: why(it.why) }, spoken(it.why)), ' ', ago(it.since, true)],
  version: (it) => it.version && h('span', { title: it.version }, it.version),
  last: (it) =>
    it.last_restart && [
      h(
        'span',
        { 'data-tone': it.last_restart.planned ? null : 'warn', title: why(it.last_restart.why) },
        it.last_restart.planned ? 'planned' : 'unplanned',
      ),
      ' ',
      ago(it.last_restart.at),
      it.last_restart.away_ms != null && h('small', null, ` gap ${took(it.last_restart.away_ms)}`),
    ],
  labels: (it) => Object.entries(it.labels).map(([key, value]) => h('span.label', { title: `${key}=${value}` }, `${key}=${value}`)),
};

/** What a cell says, but for the ages in it, which go on by themselves. */
const wording = (cell) => [...cell.childNodes].map((it) => (it.nodeName === 'TIME' ? it.dataset.at : it.textContent)).join('');

/** The table. `picked` are the ids of the rows that are picked; `onpick()` is called when they change. */
export function agentTable(picked, onpick) {
  const rows = new Map();
  const body = h('tbody');
  const heads = COLUMNS.map(([head, name]) => h('th', { scope: 'col', class: name }, head || h('span.unseen', null, 'Picked')));
  const element = h('table.fleet', null, h('caption.unseen', null, 'Agents'), h('thead', null, h('tr', null, heads)), body);

  function makeRow(id) {
    const pick = h('input', {
      type: 'checkbox',
      'aria-label': `pick ${id}`,
      checked: picked.has(id),
      'data-pick': true,
      onchange: () => {
        picked[pick.checked ? 'add' : 'delete'](id);
        onpick();
      },
    });
    const cells = {};
    const element = h(
      'tr',
      { 'data-row': true, 'data-agent': id },
      h('td.pick', null, pick),
      h('th', { scope: 'row', class: 'name', title: id }, agentLink(id)),
      COLUMNS.slice(2).map(([head, name]) => (cells[name] = h('td', { class: name, 'data-head': head }))),
    );
    return { element, cells, pick };
  }

  function showRow(agent, mark) {
    let row = rows.get(agent.agent_id);
    if (!row) rows.set(agent.agent_id, (row = makeRow(agent.agent_id)));
    const { status, why: code, since, fsm_state: phase, drain, restart, task, version, last_restart: last, labels } = agent;
    const seen = JSON.stringify([status, code, since, phase, drain, restart, task, version, last, labels]);
    if (row.seen === seen) return;
    const isNews = mark && row.seen;
    // Who restarts as it was told to is away for a moment, and that is no trouble.
    Object.assign(row, { seen, rank: RANK.indexOf(restart ? 'healthy' : status) });
    for (const [name, cell] of Object.entries(CELLS)) {
      const before = wording(row.cells[name]);
      fill(row.cells[name], cell(agent));
      if (isNews && wording(row.cells[name]) !== before) flash(row.cells[name]);
    }
  }

  let flashes = 0;
  /** Marks what changed, unless so much did that the marks would tell nothing. */
  function flash(cell) {
    flashes += 1;
    if (flashes > MOST_MARKED) return;
    cell.classList.remove('news');
    requestAnimationFrame(() => cell.classList.add('news'));
  }

  let ordered = [];
  /** Puts the rows in order, unless somebody is at them: then once they have left. Only what moves is touched. */
  function order(matching, force) {
    const those = [...rows].filter(([id]) => !matching || matching.has(id));
    those.sort(([a, one], [b, other]) => one.rank - other.rank || (a < b ? -1 : 1));
    const wanted = those.map(([, row]) => row);
    if (wanted.length === ordered.length && wanted.every((row, at) => row === ordered[at])) return;
    const sameRows = wanted.length === ordered.length && new Set([...wanted, ...ordered]).size === wanted.length;
    if (!force && sameRows && body.matches(':hover, :focus-within')) return;
    const focused = document.activeElement;
    const kept = new Set(wanted);
    for (const row of ordered) if (!kept.has(row) || row.rank !== row.placed) row.element.remove();
    let next = body.firstChild;
    for (const row of wanted) {
      if (row.element === next) next = next.nextSibling;
      else body.insertBefore(row.element, next);
      row.placed = row.rank;
    }
    ordered = wanted;
    if (body.contains(focused)) focused.focus({ preventScroll: true });
  }

  /** Shows these agents, `ids` of them anew (null: all), those that match in order. */
  function show(agents, ids, matching, first) {
    flashes = 0;
    for (const id of ids ?? agents.keys()) if (agents.has(id)) showRow(agents.get(id), !first);
    for (const [id, row] of rows) {
      if (agents.has(id)) continue;
      row.element.remove();
      rows.delete(id);
      picked.delete(id);
    }
    order(matching, first);
  }

  function clear() {
    picked.clear();
    for (const { pick } of rows.values()) pick.checked = false;
    onpick();
  }
  return { element, body, show, order, clear };
}
