// What stands above the table of the fleet: what is wrong and under way, counts, versions.

import { count, fill, h } from './dom.js';
import { STATUSES, histogram, state } from './parts.js';
import { lastEventAt } from './stream.js';
import { ago } from './time.js';
import { troubles, underWay, value } from './trouble.js';

const VERSIONS = 6;

const show = (selector) => `/dashboard?selector=${encodeURIComponent(selector)}`;

/** The overview; `selector` is the one that is shown. */
export function overview(selector) {
  const strip = h('section.strip', { 'aria-label': 'What is wrong' });
  const filters = h('nav.filters', { 'aria-label': 'By status' });
  const versions = h('div.versions');

  const filter = (text, name, n) =>
    h(
      'a',
      { href: text ? show(text) : '/dashboard', 'aria-current': selector === text ? 'true' : null },
      name,
      ' ',
      h('b', null, n.toLocaleString('en')),
    );

  function tell(agents, rollouts) {
    const said = troubles(agents, rollouts);
    const quiet = ['Nothing is wrong.', lastEventAt ? [' Last event ', ago(lastEventAt), '.'] : ' No event since you look.'];
    const wrong = said.map((it) => h('li', { 'data-tone': it.tone }, h('a', { href: it.href }, it.text)));
    const way = underWay(agents, rollouts).map((it, at) => [at > 0 && ', ', it.href ? h('a', { href: it.href }, it.text) : it.text]);
    fill(
      strip,
      wrong.length > 0 && h('ul', null, wrong),
      wrong.length === 0 && agents.length > 0 && h('p.fine', null, quiet),
      way.length > 0 && h('p.quiet', null, 'Under way: ', way),
    );
  }

  function tally(agents) {
    const by = (key) => agents.reduce((counts, it) => counts.set(it[key], (counts.get(it[key]) ?? 0) + 1), new Map());
    const status = by('status');
    const known = Object.keys(STATUSES).filter((it) => status.get(it));
    fill(
      filters,
      filter('', 'all', agents.length),
      known.map((it) => filter(`status=${it}`, state(it), status.get(it))),
    );
    const found = [...by('version')].filter(([name]) => name).sort((a, b) => b[1] - a[1]);
    const bars = found.slice(0, VERSIONS).map(([name, n]) => ({ name, n, href: show(`version=${value(name)}`) }));
    fill(versions, found.length > 1 && histogram('Versions', bars));
  }

  return {
    elements: [strip, h('div.over', null, filters, versions)],
    show(agents, rollouts) {
      tell(agents, rollouts);
      tally(agents);
    },
  };
}

/** What to do where no agent is shown, of so many. */
export function nobody(agents, matching) {
  if (agents > 0 && matching?.size === 0) {
    return h(
      'p.quiet',
      null,
      'No agent is meant by this selector. Its parts are id, label.KEY, capability, version and status, joined by commas.',
    );
  }
  if (agents > 0) return null;
  const lines = [`agentcom-sidecar onboard --hub ${location.origin} --name NAME`, 'agentcom-sidecar check', 'pm2 start ecosystem.config.js'];
  return h(
    'section.teach',
    null,
    h('h2', null, 'No agent is known yet'),
    h('p', null, 'On the machine of the first one:'),
    h(
      'pre',
      null,
      lines.map((line) => h('code', null, line)),
    ),
    h('p.quiet', null, 'It appears here as soon as it connects.'),
  );
}

/** `3 of 40 agents`, where a selector is. */
export const found = (agents, matching) => (matching ? `${matching.size} of ${count(agents, 'agent')}` : '');
