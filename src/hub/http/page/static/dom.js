// Elements. Whatever is shown goes through `clean` and becomes text, never markup.

const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\u2028\u2029]/gu;

/** A text in which each character that is not seen, or turns others around, is shown as what it is. */
export function clean(text, keep = '') {
  return String(text).replace(UNSEEN, (c) => {
    if (keep.includes(c)) return c;
    const code = c.codePointAt(0);
    if (code < 128) return `\\x${code.toString(16).padStart(2, '0')}`;
    return `\u2039U+${code.toString(16).toUpperCase().padStart(4, '0')}\u203a`;
  });
}

/** The attributes that are read by people. */
const READ = ['title', 'aria-label'];

/** An element. Of `props`, functions listen (`onclick`), `class` and the rest are attributes; null leaves one out. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split('.');
  const made = document.createElement(name || 'div');
  if (classes.length) made.className = classes.join(' ');
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value == null || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key === 'value' || key === 'checked') made[key] = value;
    else made.setAttribute(key, value === true ? '' : READ.includes(key) ? clean(value) : value);
  }
  made.append(...nodes(children));
  return made;
}

const nodes = (children) =>
  children
    .flat(Infinity)
    .filter((it) => it != null && it !== false)
    .map((it) => (it instanceof Node ? it : clean(it)));

/** Puts these in place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Says something to who does not see the page. */
export function say(text) {
  document.getElementById('say').textContent = clean(text);
}

export const may = (what) => document.body.dataset.may.split(' ').includes(what);

/** Calls `work` once, so many ms after the last wish for it, but at the latest after four times that. */
export function soon(work, ms) {
  let timer = null;
  let first = 0;
  return () => {
    const now = performance.now();
    if (timer == null) first = now;
    clearTimeout(timer);
    const run = () => {
      timer = null;
      work();
    };
    timer = setTimeout(run, Math.max(0, Math.min(ms, first + 4 * ms - now)));
  };
}

/** `3 agents`, `1 agent`. */
export const count = (n, what) => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;

/** A word of a command as a shell reads it. */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
