// The page of amd-gaia 0.25.1 as it came: it opens, chats and lists. ONEBIT_URL=... ONEBIT_GAIA=0.25.1 node --test gaia/
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { shut, until, withPage } from '../support/page.mjs';

const root = process.env.ONEBIT_URL;
const skip = process.env.ONEBIT_GAIA !== '0.25.1';
let base;
before(() => {
  base = new URL('/gaia/', root).href;
});
after(shut);

test('it opens, chats and lists', { skip }, () =>
  withPage(base, { ready: 'textarea' }, async (page) => {
    const shot = async (name) => {
      if (process.env.ONEBIT_SHOTS) await page.screenshot({ path: `${process.env.ONEBIT_SHOTS}/gaia25-${name}.png` });
    };
    await shot('start');
    await page.locator('textarea').first().fill('Name one colour.');
    await page.locator('textarea').first().press('Enter');
    const answered = async () => {
      const { sessions } = await (await fetch(new URL('/api/sessions', root))).json();
      if (!sessions.length) return [];
      return (await (await fetch(new URL(`/api/sessions/${sessions[0].id}/messages`, root))).json()).messages;
    };
    await until(async () => (await answered()).length === 2, 'the answer is stored');
    const [question, answer] = await answered();
    assert.equal(question.content, 'Name one colour.');
    const words = answer.content.trim().split(/\s+/).slice(0, 3).join(' ');
    await page.waitForFunction((text) => document.body.innerText.includes(text), words);
    await shot('answer');
    await page.reload();
    await page.waitForSelector('text=Name one colour.');
    await shot('list');
    // Nothing of what that page needs is missing: it would say so above everything.
    const said = await page.locator('.app-notice').allInnerTexts();
    assert.deepEqual(said, []);
  }));
