// The fleet: what is wrong, who there is, and what to do with a selection of them.

import { act } from './actions.js';
import { agents, load, watch } from './agents.js';
import { all, get } from './api.js';
import { count, fill, h, may, say, soon } from './dom.js';
import { found, nobody, overview } from './overview.js';
import { failed } from './parts.js';
import { agentTable } from './rows.js';
import { listen } from './stream.js';
import { selectorOf } from './trouble.js';

/** The box with the selector. */
function selectorBox(selector, go) {
  const box = h('input', {
    id: 'selector',
    value: selector,
    placeholder: 'all',
    autocomplete: 'off',
    spellcheck: 'false',
    'aria-describedby': 'matches',
    'data-search': true,
  });
  const ask = (event) => {
    event.preventDefault();
    const text = box.value.trim();
    go(`/dashboard${text && text !== 'all' ? `?selector=${encodeURIComponent(text)}` : ''}`);
  };
  const matches = h('span.quiet', { id: 'matches' });
  const form = h(
    'form.selector',
    { onsubmit: ask, role: 'search' },
    h('label', { for: 'selector' }, 'Selector'),
    box,
    h('button', { type: 'submit' }, 'Show'),
    selector && h('a', { href: '/dashboard' }, 'Show all'),
    matches,
  );
  return { form, box, matches };
}

export async function show(view, url, go) {
  const selector = url.searchParams.get('selector') ?? '';
  const picked = new Set(url.searchParams.getAll('pick'));
  let matching = null;
  let rollouts = [];
  let asked = 0;

  const above = overview(selector);
  const { form, box, matches } = selectorBox(selector, go);
  const refusal = h('p.refusal', { role: 'alert' });
  const bulk = h('div.bulk', { role: 'region', 'aria-label': 'With these agents' });
  const empty = h('div');
  const table = agentTable(picked, () => {
    showBulk();
    say(`${count(picked.size, 'agent')} picked`);
  });
  table.body.addEventListener('mouseleave', () => table.order(matching));
  fill(view, h('h1.unseen', null, 'Fleet'), above.elements, form, refusal, bulk, table.element, empty);

  const chosen = () => (picked.size ? selectorOf([...picked].sort()) : selector);

  function showBulk() {
    const who = chosen();
    const acts = [
      ['restart', 'restart', 'Restart'],
      ['drain', 'drain', 'Drain'],
      ['resume', 'drain', 'Resume'],
    ].filter(([, right]) => may(right));
    bulk.hidden = !who || !acts.length;
    const n = picked.size || matching?.size || 0;
    fill(
      bulk,
      h('span', null, count(n, 'agent'), ' '),
      h('code', { title: who }, who),
      acts.map(([kind, , title]) => h('button', { type: 'button', onclick: () => act(kind, who) }, `${title} \u2026`)),
      may('restart') && h('a.button', { href: `/dashboard/rollouts/new?selector=${encodeURIComponent(who)}` }, 'Roll out \u2026'),
      picked.size > 0 && h('button', { type: 'button', 'data-clear': true, onclick: table.clear }, 'Clear'),
    );
    // The address is that of the next view once this one is left.
    if (!view.isConnected) return;
    const address = new URL(location.href);
    address.searchParams.delete('pick');
    for (const id of picked) address.searchParams.append('pick', id);
    if (address.href !== location.href) history.replaceState(null, '', address);
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
    const mine = ++asked;
    const { items } = await get('rollouts', { limit: 100 }).catch(() => ({ items: rollouts }));
    // An answer that was overtaken by a newer one is not shown.
    if (mine === asked) rollouts = items.filter((it) => it.ended_at == null);
  }

  function summary() {
    above.show([...agents.values()], rollouts);
    matches.textContent = found(agents.size, matching);
    fill(empty, nobody(agents.size, matching));
  }

  function showRows(ids, first) {
    table.show(agents, ids, matching, first);
    showBulk();
  }

  const summarise = soon(summary, 300);
  const matchAgain = soon(async () => {
    await match();
    showRows([], false);
    summary();
  }, 700);
  const stops = [
    watch((ids) => {
      showRows(ids, false);
      summarise();
      if (selector) matchAgain();
    }),
    listen((kind) => (kind === 'rollout' || kind === 'missed') && readRollouts().then(summarise)),
  ];
  try {
    await Promise.all([load(), match(), readRollouts()]);
    showRows(null, true);
    summary();
  } catch (error) {
    failed(empty, error, () => go(location.href));
  }
  return () => stops.forEach((stop) => stop());
}
