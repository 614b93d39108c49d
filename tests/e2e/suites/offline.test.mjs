// Without the appliance, and without anything else: the shell opens, says what is wrong, and comes back by itself.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, shut, withPage } from '../support/page.mjs';

after(shut);

for (const screen of ['desktop', 'phone']) {
  test(`the page opens while the appliance is off on a ${screen}`, async () => {
    const first = await startMock({ furnished: true });
    const port = Number(new URL(first.base).port);
    await withPage(first.base, { screen, serviceWorkers: 'allow', allow: [/ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE/] }, async (page) => {
      // The worker has kept every file before it is ready.
      await page.evaluate(() => navigator.serviceWorker.ready);
      first.close();
      await page.reload();
      await page.waitForSelector('#composer');
      await page.waitForSelector('.offline >> text=cannot be reached');
      await assertAccessible(page);
      // A view that has not been looked at before opens too.
      await page.goto(`${first.base}#/settings`);
      await page.waitForSelector('h1 >> text=Settings');
      await page.selectOption('select', 'de');
      await page.waitForSelector('h1 >> text=Einstellungen');
      await page.selectOption('select', 'en');
      const second = await startMock({ furnished: true, port });
      try {
        await page.click('.offline button');
        await page.waitForSelector('.offline', { state: 'detached' });
        await page.goto(`${first.base}#/`);
        await ask(page, 'one');
        assert.match(await answered(page), /version 1/);
      } finally {
        second.close();
      }
    });
  });
}

test('an answer that is cut off by the network is taken up again', async () => {
  const mock = await startMock({ delay_ms: 2 });
  try {
    await withPage(mock.base, { allow: [/ERR_/] }, async (page) => {
      mock.control.holdAfter = 30;
      await ask(page, 'heat pump');
      await page.waitForSelector('.answer[aria-busy=true] .block');
      for (const turn of mock.store.turns.values()) for (const listener of turn.listeners) listener.destroy();
      mock.control.release();
      assert.match(await answered(page), /moving is easier than making/);
      assert.equal(await page.locator('.answer').count(), 1);
    });
  } finally {
    mock.close();
  }
});

test('nothing is asked of any other machine, in any view', async () => {
  const mock = await startMock({ furnished: true });
  try {
    // A request that left would fail the test: withPage watches, and no other name can be found.
    await withPage(mock.base, {}, async (page) => {
      await ask(page, 'hostile');
      await answered(page);
      for (const view of ['documents', 'models', 'system', 'settings', 'welcome']) {
        await page.goto(`${mock.base}#/${view}`);
        await page.waitForSelector('.page h1');
      }
    });
  } finally {
    mock.close();
  }
});
