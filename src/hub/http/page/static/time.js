// Times and durations, in the unit that a person would say.

import { h } from './dom.js';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

// What the hub's clock is ahead of the browser's, in ms.
let ahead = 0;

/** The hub's time, by the `Date` of an answer. A second or two of difference is the network's. */
export function heard(date) {
  const off = Date.parse(date) - Date.now();
  if (Number.isFinite(off)) ahead = Math.abs(off) > 3 * SECOND ? off : 0;
}

export const now = () => Date.now() + ahead;

/** A duration: 18 ms, 1.4 s, 2 min 4 s, 3 h 5 min, 2 d 4 h. */
export function took(ms) {
  if (ms == null) return '-';
  const two = (big, unit, small, less) => `${big} ${unit}${small ? ` ${small} ${less}` : ''}`;
  if (ms < SECOND) return `${Math.round(ms)} ms`;
  if (ms < 10 * SECOND) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return two(Math.floor(ms / MINUTE), 'min', Math.floor((ms % MINUTE) / SECOND), 's');
  if (ms < DAY) return two(Math.floor(ms / HOUR), 'h', Math.floor((ms % HOUR) / MINUTE), 'min');
  return two(Math.floor(ms / DAY), 'd', Math.floor((ms % DAY) / HOUR), 'h');
}

/** An age, coarser than a duration: it is read, and not compared. */
export function age(at) {
  const ms = Math.max(0, now() - at);
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  return took(ms);
}

const STAMP = new Intl.DateTimeFormat('sv', {
  year: 'numeric',
  month: '2-digit',
  day: '2-digit',
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  timeZoneName: 'short',
});

/** The absolute time, with its zone. */
export const stamp = (at) => STAMP.format(at);

/** An element that says how long ago a time is (or, as `bare`, only its age; `coarse`, without seconds), and goes on saying it. */
export function ago(at, bare = null) {
  if (at == null) return '-';
  const made = h('time', {
    datetime: new Date(at).toISOString(),
    title: stamp(at),
    'data-at': at,
    'data-bare': bare === true ? 'fine' : bare,
  });
  made.textContent = worded(made);
  return made;
}

function worded(element) {
  const at = Number(element.dataset.at);
  if (at > now() + SECOND) return `in ${took(at - now())}`;
  const { bare } = element.dataset;
  if (bare === 'coarse' && now() - at < MINUTE) return '< 1 min';
  return bare ? age(at) : `${age(at)} ago`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll('time[data-at]')) {
    const text = worded(element);
    if (element.textContent !== text) element.textContent = text;
  }
}, SECOND);
