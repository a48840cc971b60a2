// One rollout: how far it is, why it stopped and what to do about it, and each of its targets.

import { fillForm, input, open } from './actions.js';
import { all, get, post, segment } from './api.js';
import { count, fill, h, may, quoted, say } from './dom.js';
import { agentLink, command, facts, failed, reason, spoken, state, table } from './parts.js';
import { follow } from './stream.js';
import { ago, took } from './time.js';
import { TARGETS, said, targetBar } from './rollouts.js';

/** More targets than that are shown by their state, one at a time. */
const MOST_TARGETS = 2_000;

/** What can be done, in which state: the act, what it does, and whether it is what to do first. */
function steps(it) {
  const failures = it.counts.failed > 0;
  const stopped = ['paused', 'halted'].includes(it.state);
  const goes = ['canary', 'running'].includes(it.state);
  return [
    ['promote', 'let the others follow', it.awaits_promote],
    ['pause', 'stop it for now; what is under way is followed to its end', goes],
    ['retry-failed', 'let those that failed have another try', failures && (stopped || it.state === 'partial')],
    ['resume', 'let it go on; failures so far do not count any more', stopped],
    [
      'recall',
      'take back the commands that have not reached their agents',
      it.counts.restarting > 0 && (stopped || it.state === 'cancelled'),
    ],
    ['cancel', 'end it here', goes || stopped],
  ].filter(([, , can]) => can);
}

function ask(id, act, does, done) {
  return open(spoken(act.replace('-', ' ')), (dialog, close) => {
    const shown = h('div');
    const reasonOf = () => form.elements.reason.value.trim();
    const show = () =>
      fill(
        shown,
        h('p.quiet', null, 'The same as a command'),
        command(['agentcom-hub rollout', act, id, ...(reasonOf() ? ['--reason', quoted(reasonOf())] : [])].join(' ')),
      );
    const parts = [
      h('p', null, h('code', null, id), `: ${does}.`),
      input({ name: 'reason', label: 'Reason', hint: 'for whoever looks at the audit later' }, show),
      shown,
    ];
    const perform = () => post(`rollouts/${segment(id)}/${act}`, reasonOf() ? { reason: reasonOf() } : {});
    const then = () => {
      say(`${act}: done`);
      done();
    };
    const { form } = fillForm(dialog, close, { parts, label: spoken(act.replace('-', ' ')), perform, then });
    show();
  });
}

const COLUMNS = [
  { head: '#', class: 'n', cell: (it) => String(it.number + 1) },
  { head: 'Agent', class: 'name', cell: (it) => agentLink(it.agent_id) },
  { head: 'State', cell: (it) => state(it.state) },
  {
    head: 'Why',
    cell: (it) => [
      it.why && reason(it.state, it.why),
      it.detail && h('small', null, ` ${it.detail}`),
      it.attempt > 1 && h('small', null, ` try ${it.attempt}`),
    ],
  },
  { head: 'Since', cell: (it) => ago(it.since) },
  { head: 'Until', cell: (it) => it.until && ago(it.until) },
  { head: 'Gap', class: 'n', cell: (it) => it.gap_ms != null && took(it.gap_ms) },
];

function plan(it) {
  const { plan: of, counts } = it;
  const away = counts.restarting + counts.soaking;
  return facts([
    ['budget', `${away} of ${of.max_unavailable} may be away at once`],
    ['failures', `${counts.failed - it.forgiven}; more than ${of.max_failures} halt it`],
    [
      'wave',
      `${it.wave + 1} of ${it.waves}${it.wave === 0 && of.canary != null ? ' (the canary)' : ''}: up to ${it.wave_cap} of ${it.size}`,
    ],
    ['soak', `back for ${took(of.soak_ms)}, in the same run`],
    ['expects', of.expect_version && `version ${of.expect_version}`],
    ['those away', of.offline === 'wait' ? `are waited for, ${took(of.wait_for_ms)}` : 'are skipped'],
    ['selector', h('code', null, it.selector)],
    ['by', [it.by, ': ', it.reason]],
    ['begun', ago(it.created_at)],
    ['ended', it.ended_at && ago(it.ended_at)],
  ]);
}

export async function show(view, url, go, id) {
  const only = url.searchParams.get('state') ?? '';
  const head = h('div');
  const list = h('div');
  fill(view, h('p.crumb', null, h('a', { href: '/dashboard/rollouts' }, 'Rollouts')), h('h1', null, id), head, list);
  const here = `/dashboard/rollouts/${segment(id)}`;
  let keep = null;
  let live = null;

  async function read() {
    const it = await get(`rollouts/${segment(id)}`);
    const targets = it.size <= MOST_TARGETS || only ? await all(`rollouts/${segment(id)}/targets`, { state: only }) : [];
    const seen = JSON.stringify([it, targets]);
    if (seen === keep) return;
    keep = seen;
    const can = may('restart') ? steps(it) : [];
    const next = targets
      .filter((target) => target.state === 'pending')
      .slice(0, 3)
      .map((target) => target.agent_id);
    fill(
      head,
      h('p.standing', { role: 'status' }, state(it.state), ` ${said(it)} `, ago(it.since)),
      targetBar(it.counts),
      h(
        'nav.filters',
        { 'aria-label': 'Targets by state' },
        h('a', { href: here, 'aria-current': only ? null : 'true' }, 'all ', h('b', null, it.size)),
        TARGETS.filter((name) => it.counts[name]).map((name) =>
          h(
            'a',
            { href: `${here}?state=${name}`, 'aria-current': only === name ? 'true' : null },
            state(name),
            ' ',
            h('b', null, it.counts[name]),
          ),
        ),
      ),
      next.length > 0 && h('p.quiet', null, `Next: ${next.join(', ')}`),
      it.state === 'halted' &&
        h(
          'p.advice',
          null,
          it.counts.failed
            ? `${count(it.counts.failed, 'target')} failed: see below which and why, mend them, then retry failed, and resume.`
            : 'Look why nothing moves, then resume or cancel.',
        ),
      can.length > 0 &&
        h(
          'ul.steps',
          null,
          can.map(([act, does], at) =>
            h(
              'li',
              null,
              h(
                at ? 'button' : 'button.main',
                { type: 'button', onclick: () => ask(id, act, does, () => live.again()) },
                `${spoken(act.replace('-', ' '))} \u2026`,
              ),
              h('small', null, ` ${does}`),
            ),
          ),
        ),
      h('details', { open: true }, h('summary', null, 'The plan'), plan(it)),
    );
    fill(
      list,
      h('h2', null, 'Targets'),
      it.size > MOST_TARGETS && !only ? h('p', null, 'Choose a state above.') : table('Targets', COLUMNS, targets),
    );
  }

  const concerns = (_, data) => data.rollout_id === id;
  live = await follow(read, concerns, (error) => failed(list, error, () => go(url)));
  return live.stop;
}
