// All rollouts, the newest first.

import { get } from './api.js';
import { fill, h, may } from './dom.js';
import { bar, failed, reason, state, table } from './parts.js';
import { follow } from './stream.js';
import { ago } from './time.js';

/** The states of targets, in the order in which bars show them. */
export const TARGETS = ['succeeded', 'soaking', 'restarting', 'waiting', 'failed', 'skipped', 'cancelled', 'pending'];

export const targetBar = (counts) => bar(TARGETS.map((name) => ({ name, n: counts[name] })));

/** A rollout's state in a sentence. */
export function said(it) {
  if (it.state === 'halted') return reason('halted', it.why);
  if (it.awaits_promote) return 'the canary is through, and it waits for promote';
  return (
    {
      canary: 'the canary is under way',
      running: 'running',
      paused: 'paused',
      succeeded: 'each target has restarted',
      partial: 'it has ended, and not each target has restarted',
      cancelled: 'cancelled',
    }[it.state] ?? it.state
  );
}

const COLUMNS = [
  {
    head: 'Rollout',
    class: 'name',
    cell: (it) => h('a', { href: `/dashboard/rollouts/${encodeURIComponent(it.rollout_id)}` }, it.rollout_id),
  },
  { head: 'State', cell: (it) => [state(it.state), h('small', null, ` ${said(it)}`)] },
  {
    head: 'Targets',
    class: 'wide',
    cell: (it) => [targetBar(it.counts), h('small', null, `${it.counts.succeeded} of ${it.size}, ${it.counts.failed} failed`)],
  },
  { head: 'Selector', cell: (it) => h('code', null, it.selector) },
  { head: 'By', cell: (it) => [it.by, h('small', null, ` ${it.reason}`)] },
  { head: 'Begun', cell: (it) => ago(it.created_at) },
];

export async function show(view, url, go) {
  const list = h('div');
  fill(
    view,
    h(
      'div.head',
      null,
      h('h1', null, 'Rollouts'),
      may('restart') && h('a.button.main', { href: '/dashboard/rollouts/new' }, 'New rollout \u2026'),
    ),
    list,
  );
  const read = async () => {
    const { items } = await get('rollouts', { limit: 200 });
    fill(
      list,
      items.length
        ? table('Rollouts', COLUMNS, items)
        : h(
            'section.teach',
            null,
            h('h2', null, 'No rollout yet'),
            h(
              'p',
              null,
              'A rollout restarts the agents of a selection, a few at a time, and halts by itself where they do not come back. A dry run says what it would do, and does nothing:',
            ),
            h('pre', null, h('code', null, 'agentcom-hub rollout start label.pool=gpu --canary 1 --max-unavailable 5% --dry-run')),
          ),
    );
  };
  return (
    await follow(
      read,
      (kind) => kind === 'rollout',
      (error) => failed(list, error, () => go(url)),
    )
  ).stop;
}
