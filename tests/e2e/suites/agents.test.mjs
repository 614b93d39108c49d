// Agents on the page: a task, the cards of its tools, the person's word, and the runs that were.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ furnished: true });
});
after(async () => {
  await shut();
  mock.close();
});

for (const screen of ['desktop', 'phone']) {
  test(`a tool shows what it is given, waits for a word, and shows what came of it on a ${screen}`, () =>
    withPage(`${mock.base}#/agents`, { screen }, async (page) => {
      await page.click('[role=radio]:has-text("Files")');
      await page.fill('textarea', 'Count the lines of my notes.');
      await page.click('button:has-text("Run")');
      const card = page.locator('.card', { hasText: 'run_command' });
      await card.getByText('waits for your word').waitFor();
      await card.getByText('wc -l ~/notes/*.md').waitFor();
      await assertAccessible(page);
      await assertNoSideways(page);
      await page.locator('.card', { hasText: 'list_files' }).getByText('2 files').click();
      await page.waitForSelector('.card pre >> text=bread.md');
      await card.getByRole('button', { name: 'Allow' }).click();
      await card.getByText('exit code 0').waitFor();
      assert.equal(await card.getByRole('button').count(), 0);
      await page.waitForSelector('.prose >> text=212 lines');
      await page.click('section button:has-text("Thoughts")');
      await page.waitForSelector('.prose >> text=must be listed first');

      // A no is kept, and a run that was opens again as it was.
      await page.fill('textarea', 'Count them again.');
      await page.click('button:has-text("Run")');
      await card.getByRole('button', { name: 'Refuse' }).click();
      await page.waitForSelector('.prose >> text=I may not');
      assert.equal(await page.locator('.card.bad').count(), 1);
      await page.reload();
      await page.click('.past:has-text("Count the lines")');
      await page.waitForSelector('.prose >> text=212 lines');
      await card.getByText('allowed').waitFor();
    }));
}
