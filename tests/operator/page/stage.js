// What the stories share: the hub as an admin, browsers with a session, and a line to the test that runs the processes.

'use strict';

const assert = require('assert');
const fs = require('fs');
const readline = require('readline');
const { chromium } = require('playwright-core');

const LIMIT_MS = 20_000;
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

class Stage {
  constructor(executablePath, port, admin) {
    Object.assign(this, { executablePath, port, admin, base: `http://127.0.0.1:${port}`, complaints: [], refused: [] });
    this.answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    this.api = this.api.bind(this);
  }

  /** Has the test do something with its processes, and waits until it has. */
  async order(what) {
    console.log(`do ${what}`);
    const { value } = await this.answers.next();
    assert.strictEqual(value, `done ${what}`);
  }

  async api(method, path, body, token = this.admin) {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const answer = await fetch(this.base + path, { method, headers, body: body && JSON.stringify(body) });
    const said = await answer.json().catch(() => null);
    assert(answer.ok, `${method} ${path}: ${answer.status} ${JSON.stringify(said)}`);
    return said;
  }

  async token(name, role) {
    return (await this.api('POST', '/api/v1/tokens', { agent_id: name, role })).token;
  }

  async launch() {
    this.browser = await chromium.launch({ executablePath: this.executablePath, timeout: 30_000 });
  }

  /** A page in a profile of its own. What the browser complains of is kept. */
  async page(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(LIMIT_MS);
    page.on('pageerror', (error) => this.complaints.push(`${page.url()}: ${error.stack}`));
    page.on('console', (message) => {
      // A request that was refused is judged by its status, below.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) this.complaints.push(message.text());
    });
    page.on('response', (answer) => answer.status() === 403 && this.refused.push(answer.url()));
    return page;
  }

  async logIn(page, token, path = '/dashboard') {
    await page.goto(this.base + path);
    await page.fill('#token', token);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#live[data-state=live]');
  }

  /** What axe finds wrong in a page, in both themes. */
  async axe(page, what) {
    await page.evaluate(`${AXE}; 0`);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      const found = await page.evaluate(async () => (await window.axe.run(document, { resultTypes: ['violations'] })).violations);
      const told = found.map(
        (it) =>
          `${it.id}: ${it.help}\n${it.nodes
            .slice(0, 3)
            .map((node) => `  ${node.html}\n  ${node.failureSummary}`)
            .join('\n')}`,
      );
      assert.deepStrictEqual(told, [], `${what}, ${colorScheme}:\n${told.join('\n')}`);
    }
  }
}

/** The row of an agent. */
const row = (page, id) => page.locator(`tr[data-agent="${id}"]`);

module.exports = { Stage, row };
