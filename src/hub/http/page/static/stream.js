// What happens, from /api/v1/events, and whether it still arrives.

import { Refused, open } from './api.js';
import { soon } from './dom.js';
import { stamp } from './time.js';

/** So long without a line, and the stream is dead: the hub sends one at least every 15 s. */
const SILENCE_MS = 40_000;

/** So long behind other tabs, and the stream is let go: a browser has few connections to one hub. */
const HIDDEN_MS = 20_000;

const listeners = new Set();
let last = null;
let lostAt = null;
let lostBy = '';
let interrupted = false;
export let lastEventAt = null;

/** Has `hear(kind, data)` told of each event until the returned function is called. */
export function listen(hear) {
  listeners.add(hear);
  return () => listeners.delete(hear);
}

/** Has `read()` run at once, and again after each event that concerns it, one after the other, so that the newest answer is
 * the last. Returns `{stop, again}`; what fails after the first time is told to `failed`. */
export async function follow(read, concerns, failed = () => {}) {
  let [busy, wanted] = [false, false];
  const run = async () => {
    wanted = busy;
    if (busy) return;
    busy = true;
    try {
      await read();
    } finally {
      busy = false;
      if (wanted) again();
    }
  };
  const again = soon(() => run().catch(failed), 120);
  // Before the first answer: what happens meanwhile may not be in it.
  const stop = listen((kind, data) => (kind === 'missed' || concerns(kind, data)) && again());
  try {
    await run();
  } catch (error) {
    stop();
    throw error;
  }
  return { stop, again };
}

function tell(kind, data) {
  for (const hear of listeners) hear(kind, data);
}

function show(state) {
  const mark = document.getElementById('live');
  const banner = document.getElementById('lost');
  mark.dataset.state = state;
  mark.textContent = state;
  document.body.classList.toggle('stale', state === 'lost');
  banner.hidden = state !== 'lost';
  banner.textContent =
    state === 'lost' ? `Not live since ${stamp(lostAt)}: ${lostBy}. What you see is of then; it is tried again.` : '';
}

async function connection(opened) {
  const ended = new AbortController();
  let dead = setTimeout(() => ended.abort(), SILENCE_MS);
  let unseen = null;
  lostBy = 'the hub does not answer';
  const look = () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(() => ended.abort(), HIDDEN_MS);
  };
  document.addEventListener('visibilitychange', look);
  look();
  try {
    const headers = last == null ? {} : { 'last-event-id': last };
    const answer = await open('/api/v1/events', { headers, signal: ended.signal });
    lostAt = null;
    show('live');
    opened();
    // Without the number of an event to go on after, some may have been missed.
    if (interrupted && last == null) tell('missed', {});
    if (interrupted) document.querySelectorAll('[data-retry]').forEach((again) => again.click());
    interrupted = false;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(dead);
      dead = setTimeout(() => ended.abort(), SILENCE_MS);
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      blocks.forEach(read);
    }
  } catch (error) {
    // Broken off: whoever called tries again.
    if (error instanceof Refused && error.status) lostBy = error.message;
  } finally {
    clearTimeout(dead);
    clearTimeout(unseen);
    document.removeEventListener('visibilitychange', look);
  }
}

/** Waits until the page is looked at. */
async function seen() {
  if (document.hidden) await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
}

function read(block) {
  const fields = {};
  for (const line of block.split('\n')) {
    const at = line.indexOf(':');
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).trimStart();
  }
  if (fields.id) last = fields.id;
  if (!fields.event) return;
  lastEventAt = Date.now();
  tell(fields.event, JSON.parse(fields.data || '{}'));
}

/** Follows for ever. Resolves once the stream is open for the first time, or does not open soon. */
export function start() {
  return new Promise((resolve) => {
    setTimeout(resolve, 500);
    (async () => {
      for (let pause = 500; ; pause = Math.min(2 * pause, 10_000)) {
        await connection(() => {
          pause = 500;
          resolve();
        });
        interrupted = true;
        if (document.hidden) {
          show('paused');
          await seen();
          continue;
        }
        lostAt ??= Date.now();
        show('lost');
        await new Promise((next) => setTimeout(next, pause));
      }
    })();
  });
}
