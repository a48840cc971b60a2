// Requests to /api/v1. Whoever's session is over logs in again, in a dialog, and the request is sent once more.

import { h, say } from './dom.js';
import { heard } from './time.js';

/** The header by which the hub knows its own page. */
const OWN = { 'agentcom-page': '1' };

/** What the hub refused, in its words. */
export class Refused extends Error {
  constructor(status, problem) {
    const fields = (problem.errors ?? []).map((it) => `${it.field}: ${it.detail}`);
    super(fields.length ? fields.join('; ') : problem.detail || `the hub answered ${status}`);
    Object.assign(this, { status, code: problem.code });
  }
}

async function send(path, options) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { ...OWN, ...options.headers } });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Refused(0, { detail: 'the hub does not answer: it is away, or the network is' });
    }
    heard(answer.headers.get('date'));
    if (answer.status !== 401) return answer;
    await logIn();
  }
}

/** Opens a stream, with a session. */
export async function open(path, options) {
  const answer = await send(path, options);
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

async function json(path, options) {
  const answer = await send(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

const query = (params) => {
  const given = Object.entries(params ?? {}).filter(([, value]) => value != null && value !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
};

export const get = (path, params) => json(`/api/v1/${path}${query(params)}`, {});

/** Acts, once, however often it is sent; or asks what an act would do. */
export function post(path, body) {
  const headers = { 'content-type': 'application/json' };
  if (!body.dry_run) headers['idempotency-key'] = randomKey();
  return json(`/api/v1/${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
}

const randomKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** All items of a list. */
export async function all(path, params) {
  const items = [];
  for (let cursor = null; ;) {
    const page = await get(path, { limit: 1000, ...params, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
    if (!cursor) return items;
  }
}

export const segment = encodeURIComponent;

let asking = null;

/** Whether the session is of whom the page was made for, who sees the buttons of their role. */
async function isOfTheSame() {
  const answer = await fetch('/api/v1/me', { headers: OWN }).catch(() => null);
  if (!answer?.ok) return true;
  const { name, role } = await answer.json();
  return name === document.body.dataset.name && role === document.body.dataset.role;
}

const REFUSALS = { 0: 'the hub does not answer: try again', 401: 'this hub knows no such token' };

/** Asks for a token, over whatever is open, which stays as it is. */
function logIn() {
  asking ??= new Promise((resolve) => {
    const why = h('p.refusal', { role: 'alert' });
    const token = h('input', { type: 'password', id: 'again', autocomplete: 'current-password', required: true });
    const submit = async (event) => {
      event.preventDefault();
      const body = new URLSearchParams({ token: token.value });
      const answer = await fetch('/dashboard/login', { method: 'POST', body, redirect: 'manual' }).catch(() => null);
      if (answer?.type === 'opaqueredirect') {
        if (!(await isOfTheSame())) return location.reload();
        asking = null;
        dialog.close();
        dialog.remove();
        say('logged in');
        return resolve();
      }
      why.textContent = REFUSALS[answer?.status ?? 0] ?? `the hub refused it (${answer.status}): its log says why`;
    };
    const dialog = h(
      'dialog',
      {
        'aria-labelledby': 'again-title',
        oncancel: (event) => event.preventDefault(),
        // A browser closes a dialog at the second Esc, whatever the page says; what waits for the session would wait for ever.
        onclose: () => asking && dialog.showModal(),
      },
      h(
        'form',
        { onsubmit: submit },
        h('h2', { id: 'again-title' }, 'Your session is over'),
        h('p', null, `What you have typed is still there. Log in as ${document.body.dataset.name} to go on.`),
        why,
        h('label', { for: 'again' }, 'Token'),
        token,
        h('div.actions', null, h('button.main', { type: 'submit' }, 'Log in')),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
