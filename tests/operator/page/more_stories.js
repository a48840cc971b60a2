'use strict';

const assert = require('assert');
const { row } = require('./stage.js');

/** What no busy machine explains: a tenth of it is usual on one. */
const HANG_MS = 4_000;

/** Who may only read sees no button that would be refused, and the page asks for nothing that is. */
exports.viewer = async (stage) => {
  const page = await stage.page();
  stage.refused.length = 0;
  await stage.logIn(page, await stage.token('eve', 'viewer'));
  await row(page, 'alice').waitFor();
  await row(page, 'alice').getByRole('checkbox').check();
  const acts = page.getByRole('button', { name: /restart|drain|resume|start|promote|pause|cancel|retry/i });
  const links = page.getByRole('link', { name: /roll out|new rollout|audit/i });
  const {
    items: [rollout],
  } = await stage.api('GET', '/api/v1/rollouts');
  const {
    items: [task],
  } = await stage.api('GET', '/api/v1/tasks');
  for (const [path, loaded] of [
    ['/dashboard?selector=all', 'tr[data-agent=alice]'],
    ['/dashboard/agents/alice', '.timeline li'],
    ['/dashboard/rollouts', 'tr[data-row]'],
    [`/dashboard/rollouts/${rollout.rollout_id}`, 'tr[data-row]'],
    ['/dashboard/restarts', 'tr[data-row]'],
    [`/dashboard/tasks?id=${task.task_id}`, '.output'],
  ]) {
    await page.goto(stage.base + path);
    await page.waitForSelector(loaded);
    assert.deepStrictEqual([...(await acts.allTextContents()), ...(await links.allTextContents())], [], path);
  }
  assert.deepStrictEqual(stage.refused, []);
  await page.context().close();
};

/** Whose token is revoked in the middle of a sentence logs in again, and finds the sentence. */
exports.lostSession = async (stage) => {
  const page = await stage.page();
  await stage.logIn(page, await stage.token('nora', 'operator'), '/dashboard/agents/alice');
  await page.getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('button', { name: 'Drain 1 agent' }).waitFor();
  await stage.api('DELETE', '/api/v1/tokens/nora');
  await page.fill('dialog [name=reason]', 'a long sentence that nobody wants to type twice');
  await page.getByRole('heading', { name: 'Your session is over' }).waitFor();
  const again = page.locator('dialog', { hasText: 'Your session is over' });
  await again.locator('input').fill('wrong');
  await page.keyboard.press('Enter');
  await again.getByRole('alert').filter({ hasText: 'no such token' }).waitFor();
  // A browser closes a dialog at the second Esc, and what waits for the session would wait for ever.
  for (let n = 0; n < 3; n += 1) {
    await page.keyboard.press('Escape');
    await again.locator('input').waitFor();
  }
  await again.locator('input').fill(await stage.token('nora', 'operator'));
  await page.keyboard.press('Enter');
  await again.waitFor({ state: 'detached' });
  assert.strictEqual(await page.inputValue('dialog [name=reason]'), 'a long sentence that nobody wants to type twice');
  await page.getByRole('button', { name: 'Drain 1 agent' }).click();
  await page.locator('.drained', { hasText: 'twice' }).waitFor();
  await stage.api('POST', '/api/v1/resume', { selector: 'id=alice' });

  // Whoever is somebody else now, or may do less, sees a page of their own.
  await stage.api('DELETE', '/api/v1/tokens/nora');
  await page.click('header nav >> text=Tasks');
  await again.locator('input').fill(await stage.token('nora', 'viewer'));
  await page.keyboard.press('Enter');
  await page.waitForSelector('body[data-role=viewer] #live[data-state=live]');
  await page.context().close();
};

/** Addresses that are wrong, or written by hand, and what stays in them. */
exports.addresses = async (stage) => {
  const page = await stage.page();
  await stage.logIn(page, stage.admin, '/dashboard/agents/%ZZ');
  await page.getByText('No agent of this name is known').waitFor();
  await page.goto(`${stage.base}/dashboard/login`);
  await row(page, 'alice').waitFor();

  await page.goto(`${stage.base}/dashboard/tasks`);
  await page.fill('#find', 'no such text');
  await page.keyboard.press('Enter');
  await page.waitForURL(/find=no\+such\+text$/);
  await page.getByText('None of those that are loaded.').waitFor();

  // What an event causes after the fleet is left does not touch the next view's address.
  await page.goto(`${stage.base}/dashboard?selector=all&pick=alice`);
  const asked = page.waitForRequest(/agents\?.*selector=all/);
  await row(page, 'alice').waitFor();
  await asked;
  const late = page.waitForResponse(/agents\?.*selector=all/);
  await stage.api('POST', '/api/v1/drain', { selector: 'id=alice' });
  await page.waitForRequest(/agents\/alice/);
  await row(page, 'alice').getByRole('link', { name: 'alice' }).click();
  await late;
  await page.getByRole('button', { name: 'Resume' }).click();
  await page.getByRole('button', { name: 'Resume 1 agent' }).waitFor();
  assert.strictEqual(new URL(page.url()).search, '');
  await page.goBack();
  await row(page, 'alice').waitFor();
  await page.locator('dialog').waitFor({ state: 'detached' });
  await stage.api('POST', '/api/v1/resume', { selector: 'id=alice' });
  await page.context().close();
};

/** Everything without a mouse. */
exports.keyboard = async (stage) => {
  const page = await stage.page();
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim() || document.activeElement.id);
  await stage.logIn(page, stage.admin);
  await row(page, 'roll-1').waitFor();
  await press('?');
  await page.getByRole('heading', { name: 'Keyboard' }).waitFor();
  await stage.axe(page, 'the keys');
  await press('Escape', '/');
  assert.strictEqual(await focused(), 'selector');
  await page.keyboard.type('label.pool=roll');
  await press('Enter');
  await page.locator('.bulk', { hasText: '4 agents' }).waitFor();
  await press('j', 'j', 'x');
  assert.strictEqual(await focused(), 'roll-2');
  await page.locator('.bulk', { hasText: '1 agent id=roll-2' }).waitFor();
  assert.deepStrictEqual(new URL(page.url()).searchParams.getAll('pick'), ['roll-2']);
  await press('j', 'x', 'k', 'k');
  assert.strictEqual(await focused(), 'roll-1');
  await page.locator('.bulk', { hasText: '2 agents id=roll-2,id=roll-3' }).waitFor();
  await stage.axe(page, 'a selection');
  await press('Escape', 'Escape');
  await page.locator('.bulk', { hasText: '4 agents label.pool=roll' }).waitFor();
  await press('j', 'Enter');
  await page.getByRole('heading', { name: 'roll-1', level: 1 }).waitFor();
  for (let tabs = 0; (await focused()) !== 'Restart \u2026'; tabs += 1) {
    assert(tabs < 20, 'Restart is not reached by Tab');
    await press('Tab');
  }
  await press('Enter');
  await page.getByRole('button', { name: 'Restart 1 agent' }).waitFor();
  assert.strictEqual(await focused(), 'field-reason');
  await stage.axe(page, 'a dialog');
  await page.keyboard.type('by keys');
  await press('Enter');
  await page.locator('.timeline > li', { hasText: 'by keys' }).waitFor();
  assert.strictEqual(await focused(), 'Restart \u2026', 'back where it was');
  await press('g', 'r');
  await page.getByRole('heading', { name: 'Rollouts', level: 1 }).waitFor();
  await page.context().close();
};

/** Each view, in both themes, as a checker of accessibility sees it. */
exports.accessible = async (stage) => {
  const page = await stage.page();
  await page.goto(`${stage.base}/dashboard`);
  await stage.axe(page, 'the form to log in');
  await stage.logIn(page, stage.admin);
  for (const [path, loaded] of [
    ['', 'tr[data-agent=alice]'],
    ['/agents/alice', '.timeline li'],
    ['/rollouts', 'tr[data-row]'],
    ['/rollouts/new?selector=all', '.wizard ol'],
    ['/tasks', 'tr[data-row]'],
    ['/restarts', '.histogram li'],
    ['/audit', 'tr[data-row]'],
  ]) {
    await page.goto(`${stage.base}/dashboard${path}`);
    await page.waitForSelector(loaded);
    await stage.axe(page, path || 'the fleet');
  }
  await page.context().close();
};

/** A thousand agents, of which a hundred restart at once. */
exports.thousand = async (stage, crowd) => {
  await crowd.join(
    Array.from({ length: 1000 }, (_, n) => ({
      id: `crowd-${n}`,
      labels: { pool: n % 10 ? 'many' : 'few' },
      version: n % 3 ? '0.2.0' : '0.1.0',
    })),
  );
  const page = await stage.page();
  await stage.logIn(page, stage.admin);
  await page.locator('.filters', { hasText: /all 1,00\d/ }).waitFor();
  assert.strictEqual(await page.locator('tr[data-agent^=crowd-]').count(), 1000, 'all are in the page, for its search');
  await page.reload();
  await row(page, 'crowd-999').waitFor();
  const painted = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
  console.log(`told first paint after ${Math.round(painted)} ms`);
  assert(painted < HANG_MS, `first paint after ${painted} ms`);
  const worst = page.evaluate(
    () =>
      new Promise((resolve) => {
        let [last, most] = [performance.now(), 0];
        const until = last + 3000;
        const frame = (at) => {
          most = Math.max(most, at - last);
          last = at;
          if (at < until) requestAnimationFrame(frame);
          else resolve(most);
        };
        requestAnimationFrame(frame);
      }),
  );
  await stage.api('POST', '/api/v1/restarts', { selector: 'label.pool=few', reason: 'a hundred' });
  console.log(`told longest frame ${Math.round(await worst)} ms`);
  assert((await worst) < HANG_MS, `a frame of ${await worst} ms`);
  await row(page, 'crowd-990').locator('.last', { hasText: 'planned' }).waitFor();
  await page.fill('#selector', 'label.pool=few');
  await page.keyboard.press('Enter');
  await page.locator('.bulk', { hasText: '100 agents' }).waitFor();
  assert.strictEqual(await page.locator('tr[data-agent]').count(), 100);
  await page.context().close();
};
