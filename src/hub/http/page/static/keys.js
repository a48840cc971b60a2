// The keyboard: what one key does, where nobody is typing.

import { h } from './dom.js';
import { open } from './actions.js';

const KEYS = [
  ['/', 'search'],
  ['j, k', 'next, previous row'],
  ['Enter', 'open the row'],
  ['x', 'pick the row'],
  ['Esc', 'close, leave, unpick'],
  ['g f, g r, g t', 'fleet, rollouts, tasks'],
  ['?', 'this list'],
];
const PLACES = { f: '/dashboard', r: '/dashboard/rollouts', t: '/dashboard/tasks' };

export const help = () =>
  open('Keyboard', (dialog, close) => {
    dialog.append(
      h(
        'form',
        { method: 'dialog' },
        h(
          'dl.keys',
          null,
          KEYS.map(([key, does]) => h('div', null, h('dt', null, h('kbd', null, key)), h('dd', null, does))),
        ),
        h('div.actions', null, h('button.main', { type: 'button', onclick: close }, 'Close')),
      ),
    );
  });

const rows = () => [...document.querySelectorAll('#view [data-row]')].filter((row) => row.querySelector('a, button'));
const current = () => document.activeElement?.closest('[data-row]');

function move(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  next.querySelector('th a, a, button').focus();
  next.scrollIntoView({ block: 'nearest' });
}

let afterG = false;

export function start(go) {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    const typing = event.target.closest('input:not([type=checkbox]), select, textarea');
    if (event.key === 'Escape') {
      if (typing || current()) document.activeElement.blur();
      else document.querySelector('[data-clear]')?.click();
      return;
    }
    if (typing) return;
    if (afterG) {
      afterG = false;
      if (PLACES[event.key]) go(PLACES[event.key]);
      return;
    }
    const search = document.querySelector('[data-search]');
    const acts = {
      '/': () => search && (search.focus(), search.select()),
      j: () => move(1),
      k: () => move(-1),
      x: () => current()?.querySelector('[data-pick]')?.click(),
      g: () => (afterG = true),
      '?': help,
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });
}
