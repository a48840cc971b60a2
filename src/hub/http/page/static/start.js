// A new rollout: who, how many at a time, and what that would do, before it does it.

import { cli, input, parseTime } from './actions.js';
import { post } from './api.js';
import { count, fill, h, quoted, say, soon } from './dom.js';
import { command, left, named, reason } from './parts.js';

const FIELDS = [
  { name: 'selector', label: 'Selector', hint: 'all, or parts such as label.pool=gpu,status=healthy', kind: 'selector' },
  { name: 'reason', label: 'Reason', hint: 'for whoever looks at the audit later', flag: '--reason', kind: 'text' },
  { name: 'canary', label: 'Canary', hint: 'how many go first, and alone: 1, or 5%', flag: '--canary', kind: 'amount', value: '1' },
  {
    name: 'max_unavailable',
    label: 'At once',
    hint: 'how many may be away at a time: 1, or 5%',
    flag: '--max-unavailable',
    kind: 'amount',
    value: '1',
  },
  { name: 'steps', label: 'Waves', hint: 'how many by the end of each: 1,5%,25%; empty: all at once', flag: '--step', kind: 'amounts' },
  { name: 'max_failures', label: 'Failures', hint: 'more than that halt it', flag: '--max-failures', kind: 'amount', value: '0' },
  { name: 'soak_ms', label: 'Soak', hint: 'how long each must be back, such as 10s', flag: '--soak', kind: 'time', value: '10s' },
  { name: 'deadline_ms', label: 'Deadline', hint: 'how long a task may delay a restart, such as 2m', flag: '--deadline', kind: 'time' },
  {
    name: 'expect_version',
    label: 'Expected version',
    hint: 'another one after the restart is a failure',
    flag: '--expect-version',
    kind: 'text',
  },
  {
    name: 'offline',
    label: 'Those that are away',
    flag: '--offline',
    kind: 'choice',
    value: 'skip',
    options: [
      ['skip', 'are skipped'],
      ['wait', 'are waited for'],
    ],
  },
  { name: 'auto_promote', label: 'After the canary, go on by itself', flag: '--auto-promote', kind: 'flag' },
  { name: 'force', label: 'Force: do not wait for tasks', flag: '--force', kind: 'flag' },
];

const amount = (text) => (/^\d+$/.test(text) ? Number(text) : text);

/** What the form says: the body of the request and the words of the command. */
function asked(form) {
  const body = {};
  const parts = [];
  for (const { name, label, flag, kind, value } of FIELDS) {
    const control = form.elements[name];
    const text = (control.value ?? '').trim();
    if (kind === 'flag') {
      if (!control.checked) continue;
      body[name] = true;
      parts.push(flag);
      continue;
    }
    if (!text || (kind === 'choice' && text === value)) continue;
    if (kind === 'time') {
      body[name] = parseTime(text);
      if (Number.isNaN(body[name])) throw new Error(`${label}: write a number and a unit, such as 10s, 90s or 5m`);
    } else if (kind === 'amounts') body[name] = text.split(',').map((it) => amount(it.trim()));
    else body[name] = kind === 'amount' ? amount(text) : text;
    if (flag) parts.push(flag, quoted(text.replace(kind === 'time' ? / /g : '', '')));
  }
  return { body, parts };
}

function would({ matched, skipped, would: it }) {
  const waves = it.waves.map((agents, at) =>
    h(
      'li',
      null,
      h('b', null, count(agents.length, 'agent')),
      agents.length ? `: ${named(agents)}` : '',
      at === 0 && it.waves.length > 1 && h('small', null, ' (first)'),
    ),
  );
  const bears = it.max_failures ? `it bears ${count(it.max_failures, 'failure')}` : 'the first failure halts it';
  const meant = it.waves.flat().length;
  return [
    h('p', null, `It would restart ${meant} of ${count(matched, 'agent')}, ${it.max_unavailable} at once at most; ${bears}.`),
    h('ol', null, waves),
    Object.entries(it.skipped).map(([code, ids]) =>
      h('p.quiet', null, `${count(ids.length, 'agent')} left out, ${reason('skipped', code)}: ${named(ids)}`),
    ),
    it.waiting.length > 0 && h('p.quiet', null, `Waited for, as they are away: ${named(it.waiting)}`),
    left(skipped),
  ];
}

export async function show(view, url, go) {
  const outcome = h('div', { role: 'status' });
  const refusal = h('p.refusal', { role: 'alert' });
  const same = h('div');
  const begin = h('button.main', { type: 'submit', disabled: true }, 'Start the rollout');

  let turn = 0;
  const look = async () => {
    const mine = ++turn;
    begin.disabled = true;
    refusal.textContent = '';
    try {
      const { body, parts } = asked(form);
      if (!body.selector)
        return (fill(outcome, h('p.quiet', null, 'Name a selector: what the rollout would do stands here then.')), fill(same));
      fill(same, h('p.quiet', null, 'The same as a command'), command(cli('rollout start', body.selector, parts)));
      const answer = await post('rollouts', { ...body, dry_run: true });
      if (mine !== turn) return;
      fill(outcome, would(answer));
      begin.disabled = answer.would.waves.flat().length + answer.would.waiting.length === 0;
    } catch (error) {
      if (mine !== turn) return;
      fill(outcome);
      refusal.textContent = error.message;
    }
  };
  const lookSoon = soon(look, 300);
  /** What has been changed begins nothing before it is shown what it would do. */
  const changed = () => {
    turn += 1;
    begin.disabled = true;
    lookSoon();
  };

  const submit = async (event) => {
    event.preventDefault();
    begin.disabled = true;
    try {
      const { rollout } = await post('rollouts', asked(form).body);
      say('the rollout has begun');
      go(`/dashboard/rollouts/${encodeURIComponent(rollout.rollout_id)}`);
    } catch (error) {
      refusal.textContent = error.message;
      begin.disabled = false;
    }
  };
  const form = h(
    'form.wizard',
    { onsubmit: submit },
    h(
      'div.fields',
      null,
      FIELDS.map((field) =>
        input(field.kind === 'selector' ? { ...field, value: url.searchParams.get('selector') ?? '' } : field, changed),
      ),
    ),
    h('section', null, h('h2', null, 'What it would do'), outcome, refusal, same, h('div.actions', null, begin)),
  );
  fill(view, h('p.crumb', null, h('a', { href: '/dashboard/rollouts' }, 'Rollouts')), h('h1', null, 'New rollout'), form);
  await look();
}
