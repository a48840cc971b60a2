// Which view an address shows, and what stays while views change.

import { fill, h, say } from './dom.js';
import * as agent from './agent.js';
import * as fleet from './fleet.js';
import * as keys from './keys.js';
import * as lists from './lists.js';
import * as rollout from './rollout.js';
import * as rollouts from './rollouts.js';
import * as begin from './start.js';
import { failed } from './parts.js';
import { start as follow } from './stream.js';

const ROUTES = [
  [/^\/dashboard(\/login)?\/?$/, 'Fleet', fleet.show],
  [/^\/dashboard\/agents\/([^/]+)$/, null, agent.show],
  [/^\/dashboard\/rollouts$/, 'Rollouts', rollouts.show],
  [/^\/dashboard\/rollouts\/new$/, 'New rollout', begin.show],
  [/^\/dashboard\/rollouts\/([^/]+)$/, null, rollout.show],
  [/^\/dashboard\/tasks$/, 'Tasks', lists.tasks],
  [/^\/dashboard\/restarts$/, 'Restarts', lists.restarts],
  [/^\/dashboard\/audit$/, 'Audit', lists.audit],
];

const view = document.getElementById('view');
let turn = 0;
let leave = () => {};

/** A part of an address as text; where it is not written as one, as it stands there. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Shows the view of the present address. */
async function show(announce) {
  const mine = ++turn;
  leave();
  leave = () => {};
  const url = new URL(location.href);
  const route = ROUTES.find(([path]) => path.test(url.pathname));
  const [, of] = route ? route[0].exec(url.pathname) : [];
  const name = of && decoded(of);
  const title = route?.[1] ?? name ?? 'Not found';
  document.title = `${title} - agentcom-hub`;
  for (const link of document.querySelectorAll('header nav a')) {
    const path = link.getAttribute('href');
    const here = path === '/dashboard' ? /^\/dashboard(\/agents.*)?\/?$/.test(url.pathname) : url.pathname.startsWith(path);
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (announce) {
    // What a dialog asks is about the view that is left.
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    view.focus({ preventScroll: true });
    scrollTo(0, 0);
    say(title);
  }
  if (!route) return fill(view, h('h1', null, 'There is no such view'), h('p', null, h('a', { href: '/dashboard' }, 'To the fleet')));
  try {
    // A view has a root of its own: one that is left may still be filling its.
    const root = h('div');
    fill(view, root);
    const stop = await route[2](root, url, go, name);
    if (mine === turn) leave = stop ?? leave;
    else stop?.();
  } catch (error) {
    if (mine === turn) failed(view, error, () => show(false));
  }
}

/** Goes to a view. */
export function go(to) {
  const url = new URL(to, location.href);
  if (url.href !== location.href) history.pushState(null, '', url);
  show(true);
}

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[href]');
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || !url.pathname.startsWith('/dashboard') || link.getAttribute('href').startsWith('#')) return;
  event.preventDefault();
  go(url);
});
addEventListener('popstate', () => show(true));

const NAMES = { '': 'Theme: system', light: 'Theme: light', dark: 'Theme: dark' };
const theme = document.getElementById('theme');

function setTheme(chosen) {
  const root = document.documentElement;
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  theme.textContent = NAMES[chosen] ?? NAMES[''];
}

theme.addEventListener('click', () => {
  const order = Object.keys(NAMES);
  const chosen = order[(order.indexOf(document.documentElement.dataset.theme ?? '') + 1) % order.length];
  setTheme(chosen);
  try {
    localStorage.setItem('theme', chosen);
  } catch {
    // It holds for this visit then.
  }
});
setTheme(document.documentElement.dataset.theme ?? '');
document.getElementById('help').addEventListener('click', keys.help);
keys.start(go);
await follow();
show(false);
