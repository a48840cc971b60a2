// The fleet: what is wrong, who there is, and what to do with a selection of them.

import { act } from './actions.js';
import { agents, load, watch } from './agents.js';
import { all, get } from './api.js';
import { count, fill, h, may, say, soon } from './dom.js';
import { STATUSES, agentLink, failed, histogram, spoken, state, why } from './parts.js';
import { lastEventAt, listen } from './stream.js';
import { ago, took } from './time.js';
import { selectorOf, troubles, underWay } from './trouble.js';

const RANK = Object.keys(STATUSES);
const VERSIONS = 6;
/** More changed cells at once are not marked. */
const MOST_MARKED = 30;

const COLUMNS = [
  ['', 'pick'], ['Agent', 'name'], ['Status', 'status'], ['Phase', 'phase'], ['Task', 'task'], ['Link', 'link'], ['Version', 'version'], ['Last restart', 'last'], ['Labels', 'labels'],
];

/** What each cell of a row says. */
const CELLS = {
  status: (it) => state(it.status),
  phase: (it) => [it.restart ? `restart ${it.restart.state}` : it.connected && spoken(it.fsm_state), (it.drain.hub || it.drain.own) && h('small', null, ' drained')],
  task: (it) => it.task?.held && [h('a', { href: `/dashboard/tasks?id=${encodeURIComponent(it.task.task_id)}`, title: it.task.task_id }, it.task.task_id.slice(0, 12)),
    it.task.progress != null && ` ${it.task.progress} %`, ' ', it.task.silent_since && h('small', { title: 'so long without output' }, ago(it.task.silent_since, true))],
  link: (it) => (it.status === 'healthy' ? ['up ', ago(it.connected_at, 'coarse')]
    : [h('span', { title: why(it.why) }, spoken(it.why)), ' ', ago(it.since, true)]),
  version: (it) => it.version ?? '',
  last: (it) => it.last_restart && [h('span', { 'data-tone': it.last_restart.planned ? null : 'warn', title: why(it.last_restart.why) }, it.last_restart.planned ? 'planned' : 'unplanned'),
    ' ', ago(it.last_restart.at), it.last_restart.away_ms != null && h('small', null, ` gap ${took(it.last_restart.away_ms)}`)],
  labels: (it) => Object.entries(it.labels).map(([key, value]) => h('span.label', null, `${key}=${value}`)),
};

/** What a cell says, but for the ages in it, which go on by themselves. */
const wording = (cell) => [...cell.childNodes].map((it) => (it.nodeName === 'TIME' ? it.dataset.at : it.textContent)).join('');

export async function show(view, url, go) {
  const selector = url.searchParams.get('selector') ?? '';
  const picked = new Set(url.searchParams.getAll('pick'));
  const rows = new Map();
  let matching = null;
  let rollouts = [];

  const strip = h('section.strip', { 'aria-label': 'What is wrong' });
  const filters = h('nav.filters', { 'aria-label': 'By status' });
  const versions = h('div.versions');
  const box = h('input', { id: 'selector', value: selector, placeholder: 'all', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'matches', 'data-search': true });
  const matches = h('span.quiet', { id: 'matches' });
  const refusal = h('p.refusal', { role: 'alert' });
  const bulk = h('div.bulk', { role: 'region', 'aria-label': 'With these agents' });
  const body = h('tbody');
  const empty = h('div');

  const goTo = (text) => go(`/dashboard${text ? `?selector=${encodeURIComponent(text)}` : ''}`);
  const ask = (event) => {
    event.preventDefault();
    goTo(box.value.trim() === 'all' ? '' : box.value.trim());
  };
  fill(view, h('h1.unseen', null, 'Fleet'), strip,
    h('div.over', null, filters, versions),
    h('form.selector', { onsubmit: ask, role: 'search' }, h('label', { for: 'selector' }, 'Selector'), box, h('button', { type: 'submit' }, 'Show'),
      selector && h('a', { href: '/dashboard' }, 'Show all'), matches),
    refusal, bulk,
    h('table.fleet', null, h('caption.unseen', null, 'Agents'),
      h('thead', null, h('tr', null, COLUMNS.map(([head, name]) => h('th', { scope: 'col', class: name }, head || h('span.unseen', null, 'Picked'))))), body),
    empty);

  const chosen = () => (picked.size ? selectorOf([...picked].sort()) : selector);

  function showBulk() {
    const who = chosen();
    const acts = [['restart', 'restart', 'Restart'], ['drain', 'drain', 'Drain'], ['resume', 'drain', 'Resume']].filter(([, right]) => may(right));
    bulk.hidden = !who || !acts.length;
    const n = picked.size || matching?.size || 0;
    fill(bulk, h('span', null, count(n, 'agent'), ' '), h('code', { title: who }, who),
      acts.map(([kind, , title]) => h('button', { type: 'button', onclick: () => act(kind, who) }, `${title} \u2026`)),
      may('restart') && h('a.button', { href: `/dashboard/rollouts/new?selector=${encodeURIComponent(who)}` }, 'Roll out \u2026'),
      picked.size > 0 && h('button', { type: 'button', 'data-clear': true, onclick: clear }, 'Clear'));
    const address = new URL(location.href);
    address.searchParams.delete('pick');
    for (const id of picked) address.searchParams.append('pick', id);
    if (address.href !== location.href) history.replaceState(null, '', address);
  }

  function clear() {
    picked.clear();
    for (const { pick } of rows.values()) pick.checked = false;
    showBulk();
  }

  function makeRow(id) {
    const pick = h('input', { type: 'checkbox', 'aria-label': `pick ${id}`, checked: picked.has(id), 'data-pick': true, onchange: () => {
      picked[pick.checked ? 'add' : 'delete'](id);
      showBulk();
      say(`${count(picked.size, 'agent')} picked`);
    } });
    const cells = {};
    const element = h('tr', { 'data-row': true, 'data-agent': id }, h('td.pick', null, pick), h('th', { scope: 'row', class: 'name' }, agentLink(id)),
      COLUMNS.slice(2).map(([head, name]) => (cells[name] = h('td', { class: name, 'data-head': head }))));
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
  function order(force) {
    const those = [...rows].filter(([id]) => !matching || matching.has(id));
    those.sort(([a, one], [b, other]) => one.rank - other.rank || (a < b ? -1 : 1));
    const wanted = those.map(([, row]) => row);
    if (wanted.length === ordered.length && wanted.every((row, at) => row === ordered[at])) return;
    const sameRows = wanted.length === ordered.length && new Set([...wanted, ...ordered]).size === wanted.length;
    if (!force && sameRows && body.matches(':hover, :focus-within')) return;
    const kept = new Set(wanted);
    for (const row of ordered) if (!kept.has(row) || row.rank !== row.placed) row.element.remove();
    let next = body.firstChild;
    for (const row of wanted) {
      if (row.element === next) next = next.nextSibling;
      else body.insertBefore(row.element, next);
      row.placed = row.rank;
    }
    ordered = wanted;
  }
  body.addEventListener('mouseleave', () => order(false));

  function summary() {
    const those = [...agents.values()];
    const said = troubles(those, rollouts);
    const way = underWay(those, rollouts);
    fill(strip,
      said.length ? h('ul', null, said.map((it) => h('li', { 'data-tone': it.tone }, h('a', { href: it.href }, it.text))))
        : those.length > 0 && h('p.fine', null, 'Nothing is wrong.', lastEventAt ? [' Last event ', ago(lastEventAt), '.'] : ' No event since you look.'),
      way.length > 0 && h('p.quiet', null, 'Under way: ', way.map((it, at) => [at > 0 && ', ', it.href ? h('a', { href: it.href }, it.text) : it.text])));
    const by = (key) => those.reduce((counts, it) => counts.set(it[key], (counts.get(it[key]) ?? 0) + 1), new Map());
    const status = by('status');
    const filter = (text, name, n) => h('a', { href: text ? `/dashboard?selector=${encodeURIComponent(text)}` : '/dashboard', 'aria-current': selector === text ? 'true' : null }, name, ' ', h('b', null, n.toLocaleString('en')));
    fill(filters, filter('', 'all', those.length), RANK.filter((it) => status.get(it)).map((it) => filter(`status=${it}`, state(it), status.get(it))));
    const found = [...by('version')].filter(([name]) => name).sort((a, b) => b[1] - a[1]);
    fill(versions, found.length > 1 && histogram('Versions', found.slice(0, VERSIONS).map(([name, n]) => ({ name, n, href: `/dashboard?selector=${encodeURIComponent(`version=${name.replace(/[\\,]/g, '\\$&')}`)}` }))));
    matches.textContent = selector && matching ? `${matching.size} of ${count(those.length, 'agent')}` : '';
    fill(empty, those.length === 0 && teach(), those.length > 0 && matching?.size === 0 && h('p.quiet', null, 'No agent is meant by this selector. Its parts are id, label.KEY, capability, version and status, joined by commas.'));
  }

  async function match() {
    if (!selector) return;
    try {
      matching = new Set((await all('agents', { selector })).map((it) => it.agent_id));
      refusal.textContent = '';
    } catch (error) {
      matching = new Set();
      refusal.textContent = error.message;
      box.setAttribute('aria-invalid', 'true');
    }
  }

  async function readRollouts() {
    if (!may('restarts')) return;
    rollouts = (await get('rollouts', { limit: 100 }).catch(() => ({ items: rollouts }))).items.filter((it) => it.ended_at == null);
  }

  function showAll(mark) {
    for (const agent of agents.values()) showRow(agent, mark);
    for (const [id, row] of rows) {
      if (agents.has(id)) continue;
      row.element.remove();
      rows.delete(id);
      picked.delete(id);
    }
    order(!mark);
    summary();
    showBulk();
  }

  const summarise = soon(summary, 300);
  const matchAgain = soon(async () => {
    await match();
    order(false);
    showBulk();
  }, 700);
  const stops = [
    watch((ids) => {
      flashes = 0;
      if (ids == null || ids.some((id) => !rows.has(id) || !agents.has(id))) showAll(true);
      else for (const id of ids) showRow(agents.get(id), true);
      order(false);
      summarise();
      if (selector) matchAgain();
    }),
    listen((kind) => (kind === 'rollout' || kind === 'missed') && readRollouts().then(summarise)),
  ];
  const ended = () => stops.forEach((stop) => stop());
  try {
    await Promise.all([load(), match(), readRollouts()]);
    showAll(false);
  } catch (error) {
    failed(empty, error, () => go(location.href));
  }
  return ended;
}

/** What to do where there is nobody yet. */
const teach = () => h('section.teach', null, h('h2', null, 'No agent is known yet'), h('p', null, 'On the machine of the first one:'),
  h('pre', null, h('code', null, `agentcom-sidecar onboard --hub ${location.origin} NAME\nagentcom-sidecar check\npm2 start ecosystem.config.js`)),
  h('p.quiet', null, 'It appears here as soon as it connects.'));
