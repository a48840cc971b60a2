'use strict';

const assert = require('assert');
const http = require('http');
const { row } = require('./stage.js');

/** Logs in, after a wrong token; and what the cookie is worth to others. */
exports.logIn = async (stage) => {
  const page = await stage.page();
  await page.goto(`${stage.base}/dashboard/rollouts?a=1`);
  await page.fill('#token', 'wrong');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: 'this hub knows no such token' }).waitFor();
  await page.fill('#token', stage.admin);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'No rollout yet' }).waitFor();
  assert.strictEqual(new URL(page.url()).pathname, '/dashboard/rollouts', 'where it wanted to go');
  await page.click('header nav >> text=Fleet');
  await page.getByRole('heading', { name: 'No agent is known yet' }).waitFor();
  assert.deepStrictEqual(await page.locator('.teach code').allInnerTexts(), [
    `agentcom-sidecar onboard --hub ${stage.base} --name NAME`,
    'agentcom-sidecar check',
    'pm2 start ecosystem.config.js',
  ]);

  const [cookie] = await page.context().cookies();
  assert.deepStrictEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, 'Strict', '/']);
  assert(!cookie.value.includes(stage.admin), 'the token is not in it');
  const status = (options) => page.evaluate(async (it) => (await fetch('/api/v1/me', it)).status, options);
  assert.deepStrictEqual(
    [await status({ headers: { 'agentcom-page': '1' } }), await status({})],
    [200, 401],
    'the cookie alone is no proof',
  );

  // A page at another port of the same host gets the cookie sent along, and nothing for it.
  const server = http.createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html><p>other'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const other = await page.context().newPage();
  await other.goto(`http://127.0.0.1:${server.address().port}/`);
  const got = await other.evaluate(async (base) => {
    const ask = (path, options) =>
      fetch(base + path, { credentials: 'include', ...options }).then(
        (it) => it.type + it.status,
        (error) => error.name,
      );
    const json = { 'content-type': 'application/json', 'agentcom-page': '1' };
    return Promise.all([
      ask('/api/v1/me', { headers: { 'agentcom-page': '1' } }),
      ask('/api/v1/me', { mode: 'no-cors' }),
      ask('/api/v1/drain', { method: 'POST', headers: json, body: '{"selector": "all"}' }),
      ask('/dashboard/logout', { method: 'POST', mode: 'no-cors' }),
    ]);
  }, stage.base);
  assert.deepStrictEqual(got, ['TypeError', 'opaque0', 'TypeError', 'opaque0']);
  server.close();
  await other.close();
  stage.refused.length = 0;
  assert.strictEqual(await status({ headers: { 'agentcom-page': '1' } }), 200, 'it is not logged out');

  // A view that is asked for while the hub is away shows itself once it is back.
  await page.context().setOffline(true);
  await stage.order('restart the hub');
  await page.waitForSelector('#live[data-state=lost]');
  await page.click('header nav >> text=Tasks');
  await page.getByRole('button', { name: 'Try again' }).waitFor();
  await page.context().setOffline(false);
  await page.getByText('There is none.').waitFor();
  await page.waitForSelector('#live[data-state=live]');
  await page.click('header nav >> text=Fleet');
  await page.reload();
  await page.getByRole('heading', { name: 'No agent is known yet' }).waitFor();
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.waitForSelector('#token');
  assert.deepStrictEqual(await page.context().cookies(), []);
  await page.context().close();
};

/** An agent appears, leaves, and comes back; then it is restarted, and its timeline grows. */
exports.oneAgent = async (stage) => {
  const page = await stage.page();
  await stage.logIn(page, await stage.token('olga', 'operator'));
  await stage.order('come');
  await row(page, 'alice').locator('.status', { hasText: 'healthy' }).waitFor();
  await stage.order('leave');
  await row(page, 'alice').locator('.status', { hasText: 'offline' }).waitFor();
  await row(page, 'alice').locator('.link', { hasText: 'connection lost' }).waitFor();
  await page.locator('.strip', { hasText: 'alice went away in the last 5 min' }).waitFor();
  await stage.order('come');
  await row(page, 'alice').locator('.status', { hasText: 'healthy' }).waitFor();
  await page.locator('.strip', { hasText: 'alice came back without anybody having wanted the restart' }).waitFor();

  await row(page, 'alice').getByRole('link', { name: 'alice' }).click();
  const timeline = page.locator('.timeline > li');
  await timeline.filter({ hasText: 'unplanned' }).waitFor();
  const before = await timeline.count();
  assert.strictEqual(await page.locator('.machine .lit').textContent(), 'Idle');
  await page.getByText('What may come next').click();
  await page.locator('details li', { hasText: 'Idle to Draining: a checked restart, or a stop signal' }).waitFor();
  await page.getByRole('button', { name: 'Restart' }).click();
  await page.getByRole('button', { name: 'Restart 1 agent' }).waitFor();
  await page.fill('dialog [name=reason]', "it's <b>new</b> \u202e");
  await page
    .locator('dialog .command', { hasText: `agentcom-hub restart id=alice --reason 'it'\\''s <b>new</b> \u2039U+202E\u203a'` })
    .waitFor();
  await page.getByRole('button', { name: 'Restart 1 agent' }).click();
  await timeline.nth(before).waitFor();
  const newest = timeline.first();
  await newest
    .filter({ hasText: "by olga: it's <b>new</b> \u2039U+202E\u203a" })
    .filter({ hasText: /draining .* away .* in all/ })
    .waitFor();
  assert.strictEqual(await newest.getAttribute('data-kind'), 'back');
  assert((await newest.locator('.segments > span').count()) >= 4);

  await page.getByRole('button', { name: 'Drain' }).click();
  await page.fill('dialog [name=reason]', 'a new disk');
  await page.getByRole('button', { name: 'Drain 1 agent' }).click();
  await page.locator('.drained', { hasText: 'By olga' }).filter({ hasText: 'a new disk' }).waitFor();
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByRole('button', { name: 'Resume 1 agent' }).click();
  await page.locator('.drained').waitFor({ state: 'detached' });
  await page.context().close();
};

/** What agents and people wrote is shown as text, control characters included. */
exports.text = async (stage, crowd) => {
  const output = 'a <img src=x onerror="document.title=1"> b\n\u001b[31mred\u001b[0m \u202edesrever\u0007';
  await crowd.join([{ id: 'x<i>y', labels: { pool: '<b>p</b>' }, output, version: '<u>1</u>' }]);
  const page = await stage.page();
  await stage.logIn(page, stage.admin);
  await stage.api('POST', '/api/v1/tasks', { description: '<script>1</script>\u0000\u009b', assign_to: 'x<i>y' });
  await row(page, 'x<i>y').locator('.task', { hasText: '40 %' }).waitFor();
  await row(page, 'x<i>y').locator('.labels', { hasText: 'pool=<b>p</b>' }).waitFor();
  await row(page, 'x<i>y').getByRole('link', { name: 'x<i>y' }).click();
  await page.locator('.output', { hasText: '<img src=x' }).waitFor();
  const shown = await page.locator('.output').textContent();
  assert(shown.includes('a <img src=x onerror="document.title=1"> b\n\\x1b[31mred\\x1b[0m \u2039U+202E\u203adesrever\\x07'), shown);
  await page.getByRole('link', { name: 'task-' }).first().click();
  await page.locator('.output', { hasText: '<script>1</script>\\x00\u2039U+009B\u203a' }).waitFor();
  await page
    .locator('tr', { hasText: 'assigned' })
    .filter({ hasText: /ago.*agent id x<i>y, generation 1/ })
    .waitFor();
  await stage.axe(page, 'a task');
  assert.strictEqual(await page.evaluate(() => document.querySelectorAll('img, #view i:not(.segments i), #view script').length), 0);
  await page.context().close();
};

/** A rollout halts, says why and what to do, and is resumed. */
exports.rollout = async (stage, crowd) => {
  await crowd.join(
    [1, 2, 3, 4].map((n) => ({ id: `roll-${n}`, labels: { pool: 'roll' }, refuses: n === 2 ? 1 : 0, detail: 'not <b>now</b>' })),
  );
  const page = await stage.page();
  await stage.logIn(page, stage.admin, '/dashboard?selector=label.pool%3Droll');
  await page.getByRole('link', { name: 'Roll out' }).click();
  await page.locator('.wizard', { hasText: 'It would restart 4 of 4 agents, 1 at once at most; the first failure halts it.' }).waitFor();
  await page.fill('[name=soak_ms]', '1s x');
  assert(await page.getByRole('button', { name: 'Start the rollout' }).isDisabled(), 'nothing begins that is not shown');
  await page.getByRole('alert').filter({ hasText: 'Soak: write a number and a unit' }).waitFor();
  await page.fill('[name=soak_ms]', '10ms');
  await page.fill('[name=canary]', '');
  await page.fill('[name=reason]', 'a driver');
  await page
    .locator('.command', {
      hasText: "agentcom-hub rollout start label.pool=roll --reason 'a driver' --max-unavailable 1 --max-failures 0 --soak 10ms",
    })
    .waitFor();
  await page.getByRole('button', { name: 'Start the rollout' }).click();
  await page.locator('.standing', { hasText: 'more targets failed than max_failures allows' }).waitFor();
  await page
    .locator('tr', { hasText: 'roll-2' })
    .filter({ hasText: 'it refused to restart' })
    .filter({ hasText: 'not <b>now</b>' })
    .waitFor();
  await stage.axe(page, 'a rollout');
  await page.click('header nav >> text=Fleet');
  await page.locator('.strip a', { hasText: 'halted: more targets failed than max_failures allows' }).click();
  const sent = [];
  page.on('request', (request) => request.method() === 'POST' && sent.push(request.url()));
  for (const act of ['retry failed', 'resume']) {
    await page.locator('.steps').getByRole('button', { name: act }).click();
    // Twice at once, as a nervous hand does.
    const twice = (button) => [0, 1].forEach(() => button.click());
    await page.locator('dialog').getByRole('button', { name: act }).evaluate(twice);
    await page.locator('dialog').waitFor({ state: 'detached' });
  }
  if (sent.length !== 2) throw new Error(`two acts were sent as ${sent.join(', ')}`);
  await page.locator('.standing', { hasText: 'each target has restarted' }).waitFor();
  await page.locator('tr', { hasText: 'roll-2' }).filter({ hasText: 'try 2' }).waitFor();
  await page.context().close();
};
