// What is wrong, in sentences, worst first: each with where to look.

import { count } from './dom.js';
import { reason } from './parts.js';
import { now, took } from './time.js';

const MINUTE = 60_000;
/** So long away, and it is worth a sentence. */
const AWAY_MS = 5 * MINUTE;
const RECENT_MS = 10 * MINUTE;
/** More agents than that are not named in an address. */
const MOST_NAMED = 40;

/** What is said of agents that are connected and not well, by why. */
const UNWELL = {
  identity_conflict: (n) => `${n === 1 ? 'is' : 'are'} used by two sidecars at once`,
  journal_failing: () => 'cannot write the journal: look at the disk',
  restart_overdue: (n) => `${n === 1 ? 'has' : 'have'} not restarted in time`,
  task_silent: (n) => `${n === 1 ? 'has' : 'have'} a task without a sign of life`,
};

/** A value as a selector has it: what would end it is escaped. */
export const value = (text) => text.replace(text.trim() === text ? /[\\,]/g : /[\\,\s]/g, '\\$&');

/** The selector of these agents. */
export const selectorOf = (ids) => ids.map((id) => `id=${value(id)}`).join(',');

function whereTo(those, otherwise) {
  if (those.length === 1) return `/dashboard/agents/${encodeURIComponent(those[0].agent_id)}`;
  const selector = those.length <= MOST_NAMED ? selectorOf(those.map((it) => it.agent_id)) : otherwise;
  return `/dashboard?selector=${encodeURIComponent(selector)}`;
}

const whom = (those) => (those.length === 1 ? those[0].agent_id : count(those.length, 'agent'));

/** `[{tone, text, href}]`. */
export function troubles(agents, rollouts) {
  const said = [];
  const tell = (tone, those, text, otherwise) => {
    if (those.length)
      said.push({
        tone,
        text: `${whom(those)} ${typeof text === 'function' ? text(those.length) : text}`,
        href: whereTo(those, otherwise),
      });
  };
  const at = now();
  for (const it of rollouts.filter(({ state }) => state === 'halted')) {
    said.push({
      tone: 'bad',
      text: `Rollout ${it.rollout_id} halted: ${reason('halted', it.why)}`,
      href: `/dashboard/rollouts/${it.rollout_id}`,
    });
  }
  for (const [code, text] of Object.entries(UNWELL)) {
    tell(
      'bad',
      agents.filter((it) => it.status === 'degraded' && it.why === code),
      text,
      'status=degraded',
    );
  }
  const away = agents.filter((it) => it.status === 'offline');
  const isLong = (it) => at - it.away_since > AWAY_MS;
  tell('bad', away.filter(isLong), (n) => `${n === 1 ? 'is' : 'are'} away for more than ${took(AWAY_MS)}`, 'status=offline');
  tell(
    'warn',
    away.filter((it) => !isLong(it) && !it.restart),
    `went away in the last ${took(AWAY_MS)}`,
    'status=offline',
  );
  tell(
    'warn',
    agents.filter((it) => it.drain.hub?.overdue),
    'should have let go of the task by now (drained, past the deadline)',
    'all',
  );
  const crashed = agents.filter((it) => it.last_restart && !it.last_restart.planned && at - it.last_restart.at < RECENT_MS);
  tell('warn', crashed, `came back without anybody having wanted the restart, in the last ${took(RECENT_MS)}`, 'all');
  for (const it of rollouts.filter((rollout) => rollout.awaits_promote)) {
    said.push({
      tone: 'warn',
      text: `Rollout ${it.rollout_id}: the canary is through and waits for you`,
      href: `/dashboard/rollouts/${it.rollout_id}`,
    });
  }
  tell(
    'dim',
    agents.filter((it) => it.status === 'stale'),
    (n) => `${n === 1 ? 'is' : 'are'} away for so long that nobody waits any more`,
    'status=stale',
  );
  const never = agents.filter((it) => it.status === 'never_seen' && at - it.since > RECENT_MS);
  tell('dim', never, (n) => `${n === 1 ? 'has' : 'have'} a token and never connected`, 'status=never_seen');
  return said;
}

/** What is under way: `[{text, href}]`. */
export function underWay(agents, rollouts) {
  const said = rollouts
    .filter(({ state, awaits_promote: waits }) => (state === 'running' || state === 'canary') && !waits)
    .map((it) => ({
      text: `rollout ${it.rollout_id}: ${it.counts.succeeded} of ${it.size}`,
      href: `/dashboard/rollouts/${it.rollout_id}`,
    }));
  const restarting = agents.filter((it) => it.restart);
  if (restarting.length) said.push({ text: `${whom(restarting)} restarting`, href: whereTo(restarting, 'all') });
  const drained = agents.filter((it) => it.drain.hub || it.drain.own);
  if (drained.length) said.push({ text: `${whom(drained)} drained`, href: whereTo(drained, 'all') });
  const working = agents.filter((it) => it.task?.held).length;
  if (working) said.push({ text: `${count(working, 'task')} in hand` });
  return said;
}
