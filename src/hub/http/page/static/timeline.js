// Restarts as bars to scale: where the time went, at a glance.

import { h } from './dom.js';
import { spoken, why } from './parts.js';
import { ago, now, took } from './time.js';

/** What is waited for before each step. */
const SEGMENTS = {
  delivered: 'sending',
  accepted: 'deciding',
  draining: 'finishing',
  exiting: 'draining',
  back: 'away',
  refused: 'until refused',
  overdue: 'overdue',
  withdrawn: 'withdrawn',
  revoked: 'revoked',
};

/** The segments of a restart: `[{name, ms, step}]`, from step to step. */
export function segments(restart) {
  const found = [];
  let before = restart.commanded_at;
  for (const { step, at_ms: at } of restart.steps) {
    if (!SEGMENTS[step]) continue;
    found.push({ step, name: SEGMENTS[step], ms: Math.max(0, at - before) });
    before = at;
  }
  if (restart.open) found.push({ step: 'open', name: 'since then', ms: Math.max(0, now() - before) });
  return found;
}

/** A restart of either kind as one thing: `{at, planned, segments, head, words}`. */
function ofCommand(restart, past) {
  const parts = segments(restart);
  const marks = [
    restart.force && 'forced',
    restart.forced && 'left its task behind',
    ['refused', 'overdue', 'withdrawn', 'revoked'].includes(restart.state) && restart.state,
    restart.open && `now ${restart.state}`,
  ];
  const refusal = restart.steps.find(({ step }) => step === 'refused')?.detail?.detail;
  return {
    at: restart.commanded_at,
    kind: restart.open ? 'open' : restart.state,
    forced: restart.force || restart.forced,
    segments: parts,
    head: [`by ${restart.by}: ${restart.reason}`, refusal && ` \u2014 ${refusal}`],
    marks: marks.filter(Boolean),
    version: past?.version,
  };
}

function ofPast(past) {
  return {
    at: past.at - (past.away_ms ?? 0),
    kind: past.planned ? 'announced' : 'unplanned',
    segments: [{ step: 'back', name: 'away', ms: past.away_ms ?? 0 }],
    head: [why(past.why), past.reason && `: ${past.reason}`],
    marks: [past.planned ? 'planned, not by the hub' : 'unplanned', past.end && past.end !== 'restarted' && spoken(past.end)].filter(
      Boolean,
    ),
    version: past.version,
  };
}

/** All restarts that are known of an agent, the newest first, in one scale. */
export function timeline(commanded, past) {
  const byId = new Map(past.filter((it) => it.command_id).map((it) => [it.command_id, it]));
  const known = new Set(commanded.map((it) => it.command_id));
  const all = [
    ...commanded.map((it) => ofCommand(it, byId.get(it.command_id))),
    ...past.filter((it) => !known.has(it.command_id)).map(ofPast),
  ].sort((a, b) => b.at - a.at);
  const total = (it) => it.segments.reduce((sum, { ms }) => sum + ms, 0);
  const longest = Math.max(1, ...all.map(total));
  return h(
    'ol.timeline',
    { 'aria-label': 'Restarts, the newest first' },
    all.map((it) => row(it, total(it), longest)),
  );
}

function row(it, total, longest) {
  const told = it.segments.map(({ name, ms }) => `${name} ${took(ms)}`);
  const bar = h(
    'div.segments',
    { role: 'img', 'aria-label': told.join(', ') },
    it.segments.map(({ step, name, ms }) => {
      const part = h('span', { 'data-step': step, title: `${name} ${took(ms)}` }, h('i', null, took(ms)));
      part.style.flexGrow = ms;
      return part;
    }),
  );
  bar.style.width = `${Math.max(8, (100 * total) / longest)}%`;
  return h(
    'li',
    { 'data-kind': it.kind, 'data-forced': it.forced },
    h(
      'p',
      null,
      ago(it.at),
      ' ',
      it.marks.map((mark) => [h('b.mark', null, mark), ' ']),
      it.head,
      it.version && h('small', null, ` (${it.version})`),
    ),
    bar,
    h('p.quiet', null, told.join(' \u00b7 '), it.segments.length > 1 && ` \u00b7 in all ${took(total)}`),
  );
}
