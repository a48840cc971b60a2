// Web pages in a real Chromium that try what they can on a hub: `browser.js CHROMIUM HUB_PORT OWN_NAME`. Prints one JSON
// object: what each page got. It judges nothing.
//
// Every name that ends in `.test` leads to 127.0.0.1. So a page of `evil.test` at the hub's port is one that was rebound:
// for the browser it is of the same origin as what it asks. A page of `evil.test` at another port is foreign.

'use strict';

const http = require('http');
const { chromium } = require('playwright-core');

const [, , executablePath, port, ownName] = process.argv;
const LIMIT_MS = 20_000;

/** Runs in the page: tries everything on the hub at `base`, and answers what it got, by what it tried. */
async function tryAll({ base, name, limit }) {
  const got = {};
  const json = { 'content-type': 'application/json' };
  const body = JSON.stringify({ agent_id: name, description: 'from a page' });
  const ask = async (what, path, options) => {
    try {
      const answer = await fetch(base + path, { ...options, signal: AbortSignal.timeout(limit) });
      got[what] = answer.type === 'opaque' ? 'opaque' : `${answer.status} ${(await answer.text()).slice(0, 300)}`;
    } catch (error) {
      got[what] = error.name;
    }
  };
  const settled = (what, begin) =>
    new Promise((resolve) => {
      const end = (outcome) => resolve((got[what] ??= outcome));
      setTimeout(() => end('silence'), limit);
      begin(end);
    });
  const paths = ['/health', '/ready', '/metrics', '/api/agents', '/api/config/default-repo', '/api/v1/openapi.json', '/api/v1/agents', '/ws', '/'];
  const socket = `${base.replace(/^http/, 'ws')}/ws`;
  await Promise.all([
    ...paths.map((path) => ask(`GET ${path}`, path, {})),
    ask('GET with a token', '/api/agents', { headers: { authorization: 'Bearer made-up' } }),
    ask('GET as an image does', '/api/agents', { mode: 'no-cors' }),
    ask('POST JSON', '/api/onboard/register', { method: 'POST', headers: json, body }),
    ask('POST text', '/api/onboard/register', { method: 'POST', mode: 'no-cors', body }),
    ask('POST without referrer', '/api/onboard/register', { method: 'POST', headers: json, body, referrerPolicy: 'no-referrer' }),
    ask('POST a task', '/api/v1/tasks', { method: 'POST', headers: json, body }),
    ask('DELETE', '/api/v1/tokens/ops', { method: 'DELETE' }),
    settled('EventSource', (end) => {
      const events = new EventSource(`${base}/api/v1/events`);
      events.onopen = () => end('open');
      events.onerror = () => (events.close(), end('refused'));
    }),
    settled('WebSocket', (end) => {
      const opened = new WebSocket(socket);
      opened.onopen = () => (opened.close(), end('open'));
      opened.onerror = () => end('refused');
    }),
    settled('script', (end) => {
      const script = document.createElement('script');
      script.onload = () => end('loaded, and no JavaScript');
      script.onerror = () => end('refused');
      script.src = `${base}/api/agents`;
      document.documentElement.append(script);
    }),
    settled('a frame of no origin', (end) => {
      const frame = document.createElement('iframe');
      frame.sandbox = 'allow-scripts';
      window.addEventListener('message', ({ data }) => end(data));
      frame.srcdoc = `<script>
        const end = (what) => parent.postMessage(what, '*');
        const opened = new WebSocket(${JSON.stringify(socket)});
        opened.onopen = () => end('open');
        opened.onerror = () => fetch(${JSON.stringify(`${base}/api/onboard/register`)}, { method: 'POST' }).then((it) => end('read ' + it.status), () => end('refused'));
      </script>`;
      document.documentElement.append(frame);
    }),
  ]);
  return got;
}

/** Submits a form to the hub, whose answer takes the page's place. */
async function submit(page, base) {
  const went = page.waitForResponse((answer) => answer.url().endsWith('/register'));
  await page.evaluate((action) => {
    const form = document.createElement('form');
    Object.assign(form, { method: 'POST', enctype: 'text/plain', action });
    document.documentElement.append(form);
    form.submit();
  }, `${base}/api/onboard/register`);
  return `${(await went).status()}`;
}

async function main() {
  const server = http.createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html><p>evil'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const foreign = server.address().port;
  const args = ['--host-resolver-rules=MAP *.test 127.0.0.1'];
  const browser = await chromium.launch({ executablePath, args, timeout: 30_000 });
  // Each in a profile of its own, so that none waits for the connections of another.
  const open = async (url, look) => {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(2 * LIMIT_MS);
    const answer = await page.goto(url);
    const seen = { status: answer.status(), origin: await page.evaluate(() => location.origin), ...(await look(page)) };
    await context.close();
    return [url, seen];
  };
  const visit = (url) => open(url, () => ({}));
  const attack = (url, base, name) =>
    open(url, async (page) => ({ got: { ...(await page.evaluate(tryAll, { base, name, limit: LIMIT_MS })), form: await submit(page, base) } }));
  const at = (name, where = port) => `http://${name}:${where}`;
  const told = {};
  try {
    const own = ['2130706433', '0x7f.1', '127.1', 'localhost', 'localhost.', 'a.localhost', '[::ffff:127.0.0.1]'];
    const rebound = ['localhost.evil.test', '127.0.0.1.evil.test'];
    const batteries = [
      [at('127.0.0.1'), at('127.0.0.1'), 'own'],
      [at(ownName), at(ownName), 'own'],
      [at('evil.test'), at('evil.test'), 'evil'],
      [at('evil.test', foreign), at('127.0.0.1'), 'evil'],
      [at('127.0.0.1', foreign), at('127.0.0.1'), 'evil'],
      [at(ownName, foreign), at(ownName), 'evil'],
    ];
    const visits = [...own, ...rebound].map((name) => visit(`${at(name)}/health`));
    const attacks = batteries.map(([page, base, name]) => attack(`${page}/health`, base, name));
    for (const [url, seen] of await Promise.all([...visits, ...attacks])) told[url.replace(`:${foreign}`, ':foreign')] = seen;
  } finally {
    await browser.close();
    server.close();
  }
  console.log(JSON.stringify(told));
}

main().catch((error) => {
  console.error(`browser: ${error.stack}`);
  process.exitCode = 1;
});
