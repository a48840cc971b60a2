// What several views show.

import { clean, count, fill, h, say } from './dom.js';
import words from './words.js';

/** Each status with its shape, the gravest first; the shape and the word say it without the colour. */
export const STATUSES = {
  degraded: '\u25b2',
  offline: '\u25cb',
  stale: '\u25cc',
  never_seen: '\u00b7',
  healthy: '\u25cf',
};

const TONES = {
  degraded: 'warn',
  offline: 'bad',
  stale: 'dim',
  never_seen: 'dim',
  healthy: 'good',
  halted: 'bad',
  failed: 'bad',
  refused: 'bad',
  overdue: 'bad',
  dead_letter: 'bad',
  revoked: 'bad',
  partial: 'warn',
  paused: 'warn',
  waiting: 'warn',
  succeeded: 'good',
  back: 'good',
  completed: 'good',
  running: 'busy',
  canary: 'busy',
  restarting: 'busy',
  soaking: 'busy',
  assigned: 'busy',
  working: 'busy',
  commanded: 'busy',
  delivered: 'busy',
  accepted: 'busy',
  draining: 'busy',
  exiting: 'busy',
};
const SHAPES = { good: '\u25cf', bad: '\u25a0', warn: '\u25b2', busy: '\u25d0', dim: '\u25cb' };

export const spoken = (code) => String(code ?? '-').replaceAll('_', ' ');

/** A state in a word, with a shape and a colour that repeat it. */
export function state(code) {
  const tone = TONES[code] ?? 'dim';
  return h('span.state', { 'data-tone': tone }, h('span', { 'aria-hidden': 'true' }, STATUSES[code] ?? SHAPES[tone]), ` ${spoken(code)}`);
}

export const why = (code) => words.agent[code] ?? spoken(code);
export const reason = (of, code) => words.rollout[of]?.[code] ?? spoken(code);

export const agentLink = (id) => h('a', { href: `/dashboard/agents/${encodeURIComponent(id)}` }, id);

/** A list of names and values. */
export const facts = (pairs) =>
  h(
    'dl.facts',
    null,
    pairs
      .filter(([, value]) => value != null && value !== false && value !== '')
      .map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))),
  );

/** A table of `columns`, each `{head, cell(item), class}`. */
export function table(caption, columns, items, row = () => ({})) {
  const head = h(
    'tr',
    null,
    columns.map((it) => h('th', { scope: 'col', class: it.class }, it.head)),
  );
  const body = items.map((item) =>
    h(
      'tr',
      { 'data-row': true, ...row(item) },
      columns.map((it) => h('td', { class: it.class, 'data-head': it.head }, it.cell(item))),
    ),
  );
  return h(
    'div.scroll',
    { tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', null, h('caption.unseen', null, caption), h('thead', null, head), h('tbody', null, body)),
  );
}

/** A bar of parts `{n, tone, name}`, as wide as they are many. */
export function bar(parts) {
  const shown = parts.filter((it) => it.n > 0);
  const label = shown.map((it) => `${it.n} ${spoken(it.name)}`).join(', ');
  return h(
    'div.bar',
    { role: 'img', 'aria-label': label || 'nothing yet' },
    shown.map((it) => {
      const part = h('span', { 'data-tone': it.tone ?? TONES[it.name] ?? 'dim', title: `${it.n} ${spoken(it.name)}` });
      part.style.flexGrow = it.n;
      return part;
    }),
  );
}

/** Rows of bars with their counts: `[{name, n, href}]`. */
export function histogram(label, rows) {
  const most = Math.max(1, ...rows.map((it) => it.n));
  return h(
    'ul.histogram',
    { 'aria-label': label },
    rows.map(({ name, n, href }) => {
      const line = h('span.line', { 'aria-hidden': 'true' });
      line.style.width = `${(100 * n) / most}%`;
      const text = [
        h('span.name', null, name),
        h('span.track', { 'aria-hidden': 'true' }, line),
        h('span.n', null, n.toLocaleString('en')),
      ];
      return h('li', null, href ? h('a', { href, 'aria-label': `${name}: ${n}` }, text) : text);
    }),
  );
}

/** Shows what went wrong in an element's place, and offers another try, which is made by itself once the hub is back. */
export function failed(element, error, retry) {
  fill(element, h('p.refusal', { role: 'alert' }, error.message), retry && h('button', { type: 'button', onclick: retry, 'data-retry': true }, 'Try again'));
}

/** A text that was written by others, whole and as it is. */
export function output(text, label) {
  const made = h('pre.output', { tabindex: '0', role: 'region', 'aria-label': label });
  made.textContent = clean(text, '\n\t');
  return made;
}

/** A command that does the same, to copy. */
export function command(text) {
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => null);
    say('copied');
  };
  return h(
    'div.command',
    null,
    h('code', null, text),
    window.isSecureContext && h('button', { type: 'button', onclick: copy, 'aria-label': 'Copy the command' }, 'Copy'),
  );
}

/** Who is passed over, and why: agents by their reason. */
export function left(skipped) {
  const by = new Map();
  for (const { detail, agent_id: id } of skipped) by.set(detail, [...(by.get(detail) ?? []), id]);
  return [...by].map(([detail, ids]) => h('p.quiet', null, `${count(ids.length, 'agent')} left out, ${detail}: `, named(ids)));
}

/** Names, the first few of them. */
export function named(ids, most = 12) {
  const more = ids.length - most;
  return `${ids.slice(0, most).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
