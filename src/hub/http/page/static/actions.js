// Dialogs that act on a selection: who is meant, who is left out and why, a reason, and the same as a command.

import { post } from './api.js';
import { count, fill, h, quoted, say, soon } from './dom.js';
import { command, left, named } from './parts.js';

/** Each act: what it is called, where it goes, what its dry run tells, and what more may be said. */
const ACTS = {
  restart: {
    title: 'Restart',
    path: 'restarts',
    done: 'told to restart',
    about: 'Each finishes its task first, for as long as the deadline lets it, and comes back by itself.',
    meant: (answer) => answer.restarts.map((it) => it.agent_id),
    fields: [
      {
        name: 'deadline_ms',
        label: 'Deadline',
        hint: 'how long a running task may delay it, such as 90s or 5m',
        flag: '--deadline',
        kind: 'time',
      },
      { name: 'force', label: 'Force: do not wait for tasks', flag: '--force', kind: 'flag' },
    ],
  },
  drain: {
    title: 'Drain',
    path: 'drain',
    done: 'drained',
    about: 'They get no new task. What they hold goes on, and nothing is taken from them.',
    meant: (answer) => answer.changed,
    same: 'drained in this way already',
    fields: [
      {
        name: 'until_ms',
        label: 'For',
        hint: 'ends by itself after, such as 2h; empty: until it is resumed',
        flag: '--until',
        kind: 'time',
      },
    ],
  },
  resume: {
    title: 'Resume',
    path: 'resume',
    done: 'take tasks again',
    about: 'They take tasks again.',
    meant: (answer) => answer.changed,
    same: 'not drained from the hub',
    fields: [],
  },
};

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time such as `90s` in ms; undefined where nothing is said, NaN where it is none. */
export function parseTime(text) {
  if (!text.trim()) return undefined;
  const [, number, unit] = /^(\d+)\s*(ms|s|m|h|d)$/.exec(text.trim()) ?? [];
  return number ? Number(number) * UNITS[unit] : NaN;
}

export const cli = (act, selector, parts) => ['agentcom-hub', act, quoted(selector), ...parts].join(' ');

/** A field of a form. */
export function input({ name, label, hint, kind, value = '', options }, onchange) {
  const id = `field-${name}`;
  if (kind === 'flag')
    return h('label.check', null, h('input', { type: 'checkbox', name, checked: Boolean(value), oninput: onchange }), ` ${label}`);
  const attributes = { id, name, oninput: onchange, 'aria-describedby': hint ? `${id}-hint` : null };
  const control = options
    ? h(
        'select',
        attributes,
        options.map(([of, text]) => h('option', { value: of, selected: of === value }, text)),
      )
    : h('input', { ...attributes, value, autocomplete: 'off', spellcheck: 'false' });
  return h('div.field', null, h('label', { for: id }, label), control, hint && h('small', { id: `${id}-hint` }, hint));
}

/** Opens a dialog; resolves once it is closed. */
export function open(title, fillIn) {
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title' });
  const close = () => dialog.close();
  fillIn(dialog, close);
  dialog.querySelector('form, div').prepend(h('h2', { id: 'dialog-title' }, title));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve();
    });
  });
}

/**
 * Fills a dialog with a form that acts, once: `perform` does it, then the dialog closes and `then` follows. What is refused is
 * shown, and can be tried again.
 */
export function fillForm(dialog, close, { parts, label, perform, then }) {
  const refusal = h('p.refusal', { role: 'alert' });
  const go = h('button.main', { type: 'submit' }, label);
  const submit = async (event) => {
    event.preventDefault();
    refusal.textContent = '';
    go.disabled = true;
    try {
      await perform();
    } catch (error) {
      refusal.textContent = error.message;
      go.disabled = false;
      return;
    }
    close();
    then();
  };
  const back = h('button', { type: 'button', onclick: close }, 'Back');
  const form = h('form', { onsubmit: submit }, parts, refusal, h('div.actions', null, back, go));
  dialog.append(form);
  return { form, refusal, go };
}

/** Asks whether to act on a selection, and does. `done()` is called after it was. */
export function act(kind, selector, done = () => {}) {
  const it = ACTS[kind];
  return open(it.title, (dialog, close) => {
    const whom = h('div.whom', { role: 'status' }, 'Asking the hub who is meant \u2026');
    const shown = h('div');
    let meant = [];

    const asked = () => {
      const body = { selector };
      const parts = [];
      const reason = form.elements.reason.value.trim();
      if (reason) {
        body.reason = reason;
        parts.push('--reason', quoted(reason));
      }
      for (const { name, label, flag, kind: of } of it.fields) {
        const control = form.elements[name];
        if (of === 'flag' && control.checked) {
          body[name] = true;
          parts.push(flag);
        }
        if (of !== 'time') continue;
        const ms = parseTime(control.value);
        if (Number.isNaN(ms)) throw new Error(`${label}: write a number and a unit, such as 90s, 5m or 2h`);
        if (ms == null) continue;
        body[name] = ms;
        parts.push(flag, control.value.replaceAll(' ', ''));
      }
      return { body, parts };
    };

    const look = async () => {
      refusal.textContent = '';
      try {
        const { body, parts } = asked();
        fill(shown, h('p.quiet', null, 'The same as a command'), command(cli(kind, selector, parts)));
        const answer = await post(it.path, { ...body, dry_run: true });
        meant = it.meant(answer);
        const same = answer.unchanged ?? [];
        fill(
          whom,
          h('p', null, h('strong', null, count(meant.length, 'agent')), meant.length ? `: ${named(meant)}` : ': nobody'),
          same.length > 0 && h('p.quiet', null, `${count(same.length, 'agent')} left out, ${it.same}: ${named(same)}`),
          left(answer.skipped),
        );
        go.disabled = meant.length === 0;
        go.textContent = `${it.title} ${count(meant.length, 'agent')}`;
      } catch (error) {
        go.disabled = true;
        fill(whom);
        refusal.textContent = error.message;
      }
    };
    const lookSoon = soon(look, 250);

    const parts = [
      h('p', null, it.about),
      whom,
      input({ name: 'reason', label: 'Reason', hint: 'for whoever looks at the audit later' }, lookSoon),
      it.fields.map((field) => input(field, lookSoon)),
      shown,
    ];
    const perform = () => post(it.path, asked().body);
    const then = () => {
      say(`${count(meant.length, 'agent')} ${it.done}`);
      done();
    };
    const { form, refusal, go } = fillForm(dialog, close, { parts, label: it.title, perform, then });
    go.disabled = true;
    look();
  });
}
