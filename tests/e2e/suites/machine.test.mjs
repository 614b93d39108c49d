// Models and the machine: fetch, pin, set up, measure, remove; what the chips do, the log, the check-up.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ furnished: true, delay_ms: 2 });
});
after(async () => {
  await shut();
  mock.close();
});

for (const screen of ['desktop', 'phone']) {
  describe(`models on a ${screen}`, () => {
    test('loads one, and says why another does not fit', () =>
      withPage(`${mock.base}#/models`, { screen, allow: [/507/] }, async (page) => {
        const row = page.locator('.page li', { hasText: 'BitNet' });
        await row.getByRole('button', { name: 'Load' }).click();
        await row.getByText('Loading').waitFor();
        await row.getByText('In memory').waitFor();
        await row.getByRole('button', { name: 'Unload' }).click();
        await row.getByText('On disk').waitFor();
        await page.locator('.page li', { hasText: 'Qwen3' }).getByRole('button', { name: 'Load' }).click();
        await page.waitForSelector('.notes .bad >> text=does not fit');
      }));

    test('a model is looked up, its fit is told, and it comes, pauses and goes on', () =>
      withPage(`${mock.base}#/models`, { screen, allow: [/400|503/] }, async (page) => {
        mock.store.downloads.clear();
        mock.store.downloadStep = 0;
        await page.fill('[role=search] input', 'non/sense/name');
        await page.press('[role=search] input', 'Enter');
        await page.waitForSelector('.notice >> text=write it as owner/name');
        await page.fill('[role=search] input', 'small');
        await page.press('[role=search] input', 'Enter');
        await page.locator('.hits button', { hasText: 'house/small-model-pro' }).getByText('needs an account').waitFor();
        await page.locator('.hits button', { hasText: 'lab/small-model' }).click();
        await page.locator('.hits .variants li', { hasText: 'Q8_0' }).waitFor();
        await assertNoSideways(page);
        await page.fill('[role=search] input', 'offline');
        await page.press('[role=search] input', 'Enter');
        await page.waitForSelector('.notice >> text=offline is set');
        await page.fill('[role=search] input', 'lab/small-model');
        await page.press('[role=search] input', 'Enter');
        const variant = (name) => page.locator('.variants li', { hasText: name });
        await variant('Q4_K_M').getByText('Fits into free memory').waitFor();
        await variant('F16').getByText('Too large').waitFor();
        assert.ok(await variant('F16').getByRole('button').isDisabled());
        await variant('Q4_K_M').getByRole('button').click();
        const row = page.locator('.page li', { hasText: 'lab/small-model:Q4_K_M' });
        await row.getByText('Coming').waitFor();
        await row.getByRole('button', { name: 'Pause' }).click();
        await row.getByText('Paused').waitFor();
        await assertAccessible(page);
        await assertNoSideways(page);
        mock.store.downloadStep = 0.5;
        await row.getByRole('button', { name: 'Resume' }).click();
        await row.getByText('Here').waitFor();
        await row.getByRole('button', { name: 'Close' }).click();
        await row.waitFor({ state: 'detached' });
      }));

    test('what suits the machine is offered, and comes when asked for', () => {
      Object.assign(mock.store.starter, { state: 'offered' });
      Object.assign(mock.store.starter.parts[0], { state: 'missing', done_bytes: 0, total_bytes: 0 });
      return withPage(`${mock.base}#/models`, { screen }, async (page) => {
        const offer = page.getByRole('region', { name: 'Suits this machine' });
        await offer.getByText('needs whisper-server').waitFor();
        await assertAccessible(page);
        await assertNoSideways(page);
        await offer.getByRole('button', { name: 'Get them all' }).click();
        await offer.getByText('50%').waitFor();
        // It is all here, and the offer goes.
        await offer.waitFor({ state: 'detached' });
        assert.equal(mock.store.starter.state, 'complete');
        mock.store.starter.state = 'offered';
        await page.reload();
        await offer.getByRole('button', { name: 'No, thanks' }).click();
        await offer.waitFor({ state: 'detached' });
        assert.equal(mock.store.starter.state, 'dismissed');
      });
    });
  });
}

describe('models', () => {
  const menu = async (page, name, verb) => {
    await page.click(`button[aria-label="More for ${name}"]`);
    await page.click(`[role=menuitem]:has-text("${verb}")`);
  };

  test('one is pinned, set up, measured and removed', () =>
    withPage(`${mock.base}#/models`, { allow: [/400/] }, async (page) => {
      await menu(page, 'SmolLM2 135M Instruct', 'Keep in memory');
      await page.waitForSelector('li:has-text("SmolLM2") >> text=kept in memory');
      await menu(page, 'SmolLM2 135M Instruct', 'Settings');
      await page.fill('dialog input', '9000');
      await page.click('dialog button[type=submit]');
      // The browser's own check of the field holds it back.
      assert.equal(await page.locator('dialog input').evaluate((input) => input.validity.rangeOverflow), true);
      await page.fill('dialog input', '2048');
      await page.click('dialog button[type=submit]');
      await page.waitForSelector('.notes >> text=Saved');
      assert.deepEqual(mock.store.options['smollm2-135m-instruct'], { ctx_size: 2048 });
      await menu(page, 'SmolLM2 135M Instruct', 'Measure');
      await page.waitForSelector('dialog figure:nth-of-type(3)');
      assert.match(await page.locator('dialog').innerText(), /256 tokens before[\s\S]*Reading[\s\S]*tok\/s/);
      await assertAccessible(page);
      await page.keyboard.press('Escape');
      await menu(page, 'BitNet b1.58 2B 4T', 'Remove from this machine');
      await page.click('dialog button.danger');
      await page.waitForSelector('li:has-text("BitNet")', { state: 'detached' });
    }));

  test('the picker chooses who answers', () =>
    withPage(mock.base, {}, async (page) => {
      mock.store.models.push({ ...mock.store.models[0], id: 'other', name: 'Zeta 1B', state: 'ready' });
      await page.click('.pick');
      await page.click('[role=menuitemradio]:has-text("Zeta")');
      await ask(page, 'one');
      await answered(page);
      assert.match(await page.locator('.answer .reading').last().innerText(), /Zeta/);
    }));
});

for (const screen of ['desktop', 'phone']) {
  test(`the system shows its chips, its charts, its log and a check-up on a ${screen}`, () =>
    withPage(`${mock.base}#/system`, { screen }, async (page) => {
      const lane = page.locator('.lanes li', { hasText: 'ternary@cpu' });
      assert.match(await lane.innerText(), /Answers\s*99/);
      await page.waitForFunction(() => /L/.test(document.querySelector('.charts path:not(.ground)')?.getAttribute('d') ?? ''));
      assert.match(await page.locator('.charts').innerText(), /Processor\s*24\s?%[\s\S]*Power\s*\d+ W/);
      await page.waitForSelector('.box >> text=listening on');
      await page.fill('input[aria-label="Filter the log"]', 'hub');
      assert.equal(await page.locator('.box p').count(), 1);
      await page.fill('input[aria-label="Filter the log"]', '');
      await page.check('text=Warnings and errors');
      assert.equal(await page.locator('.box p').count(), 2);
      await page.click('button:has-text("Look for a newer version")');
      await page.waitForSelector('text=Version 0.2.0 can be had; this is 0.1.0');
      assert.equal(await page.getByText('GPU kernels').count(), 0);
      mock.store.gpu = { lane: 'ternary.hip', device: 'Radeon 8060S', phase: 'compiling', done: 12, total: 25, why: null };
      const kernels = page.locator('section', { hasText: 'GPU kernels' });
      await kernels.getByText('12 of 25 compiled and checked; the processor answers').waitFor();
      assert.equal(await kernels.locator('progress').getAttribute('value'), '0.48');
      await page.click('button:has-text("Look at the machine")');
      await page.waitForSelector('pre >> text=sudo apt install mesa-vulkan-drivers');
      await assertAccessible(page);
      await assertNoSideways(page);
      mock.store.gpu = { ...mock.store.gpu, phase: 'failed', why: 'kernel rope computes other numbers than its definition' };
      await kernels.getByText('computes other numbers').waitFor();
      mock.store.gpu = null;
    }));
}
