// All agents, kept as the hub has them: read once, then each again of which an event tells.

import { all, get, segment } from './api.js';
import { soon } from './dom.js';
import { listen } from './stream.js';

/** More than so many changed at once, and the list is read anew. */
const MOST_SINGLE = 12;
/** The list is not read more often than that. */
const PAUSE_MS = 1_500;
/** Some statuses change by the mere passing of time. */
const REREAD_MS = 20_000;

export const agents = new Map();
const watchers = new Set();
const changed = new Set();
let everything = false;
let reading = null;
let readAt = -PAUSE_MS;

/** Has `see(ids)` told which agents changed (null: any) until the returned function is called. */
export function watch(see) {
  watchers.add(see);
  return () => watchers.delete(see);
}

const tell = (ids) => watchers.forEach((see) => see(ids));

async function readAll() {
  readAt = performance.now();
  const found = await all('agents');
  agents.clear();
  for (const agent of found) agents.set(agent.agent_id, agent);
  tell(null);
}

async function readOne(id) {
  try {
    agents.set(id, await get(`agents/${segment(id)}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    agents.delete(id);
  }
}

async function refresh() {
  if (reading) return reading.then(again, again);
  const ids = [...changed];
  const whole = everything || ids.length > MOST_SINGLE;
  const wait = whole ? readAt + PAUSE_MS - performance.now() : 0;
  if (wait > 0) return setTimeout(again, wait);
  changed.clear();
  everything = false;
  reading = whole ? readAll() : Promise.all(ids.map(readOne)).then(() => tell(ids));
  try {
    await reading;
  } catch {
    // Away: what an event or the next look tells is read then.
    everything = true;
  } finally {
    reading = null;
  }
}

const again = soon(refresh, 120);

/** Reads all agents, if they are not there yet. */
export async function load() {
  if (agents.size) return again();
  await readAll();
}

listen((kind, data) => {
  if (kind === 'missed') everything = true;
  else if (data.agent_id) changed.add(data.agent_id);
  else return;
  again();
});

setInterval(() => {
  if (document.hidden || !watchers.size) return;
  everything = true;
  again();
}, REREAD_MS);
