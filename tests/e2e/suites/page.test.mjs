// The page itself: keyboard, phone, languages, accessibility, first visit, large histories.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { addChat, addMessage, stats } from '../mock/store.mjs';
import { answered, ask, assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ furnished: true, delay_ms: 2 });
});
after(async () => {
  await shut();
  mock.close();
});

const VIEWS = ['#/', '#/documents', '#/agents', '#/models', '#/system', '#/settings', '#/devices', '#/welcome'];

describe('accessibility', () => {
  for (const screen of ['desktop', 'phone']) {
    for (const colorScheme of ['light', 'dark']) {
      test(`every view is clean on a ${screen} in ${colorScheme}`, () =>
        withPage(mock.base, { screen, colorScheme }, async (page) => {
          await ask(page, 'python please');
          await answered(page);
          await page.waitForSelector('.hljs-keyword');
          await assertAccessible(page);
          for (const view of VIEWS) {
            await page.goto(mock.base + view);
            await page.waitForLoadState('networkidle');
            await assertAccessible(page);
            await assertNoSideways(page);
          }
        }));
    }
  }

  test('sheets and menus are clean', () =>
    withPage(mock.base, {}, async (page) => {
      await page.keyboard.press('Control+k');
      await page.waitForSelector('dialog[open]');
      await assertAccessible(page);
      await page.keyboard.press('Escape');
      await page.click('.pick');
      await assertAccessible(page);
    }));

  test('an answer is spoken in sentences', () =>
    withPage(mock.base, {}, async (page) => {
      await page.evaluate(() => {
        globalThis.spoken = [];
        const region = document.querySelector('[aria-live=polite].offscreen');
        new MutationObserver(() => globalThis.spoken.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
      });
      await ask(page, 'heat pump');
      await answered(page);
      await page.waitForFunction(() => globalThis.spoken.at(-1)?.endsWith('End of the answer.'));
      const spoken = await page.evaluate(() => globalThis.spoken);
      assert.equal(spoken[0], 'The answer begins.');
      assert.ok(spoken.every((text) => !text.includes('**')));
    }));
});

describe('keyboard', () => {
  test('a whole conversation without a pointer', () =>
    withPage(mock.base, {}, async (page) => {
      const keys = page.keyboard;
      await keys.press('Control+Shift+O');
      await page.waitForFunction(() => document.activeElement?.id === 'composer');
      await keys.type('by keys alone');
      await keys.press('Enter');
      await answered(page);
      await keys.press('Control+Shift+Enter');
      await page.waitForSelector('.answer .branches >> text=2/2');
      await answered(page);
      await keys.press('Control+Shift+E');
      await page.waitForSelector('.edit textarea:focus');
      await keys.type(', edited');
      await keys.press('Enter');
      await page.waitForSelector('.question .branches >> text=2/2');
      await answered(page);

      await keys.press('Control+K');
      await keys.type('grey cat');
      await page.waitForSelector('[role=option][aria-selected=true] >> text=Names for a grey cat');
      await keys.press('Enter');
      await page.waitForSelector('h1 >> text=Names for a grey cat');

      await keys.press('Control+B');
      await page.waitForSelector('.frame.closed');
      await keys.press('Control+B');
      await page.evaluate(() => document.activeElement.blur());
      await keys.press('?');
      await page.waitForSelector('dialog[open] >> text=Keyboard');
      await keys.press('Escape');
      await keys.press('/');
      await page.waitForFunction(() => document.activeElement?.id === 'search');
      await keys.press('Control+Shift+D');
      await page.waitForSelector('dialog[open] >> text=Delete the chat?');
      await keys.press('Escape');
    }));

  test('the first stop is the way past the list', () =>
    withPage(mock.base, {}, async (page) => {
      const first = await page.evaluate(() => {
        const all = [...document.querySelectorAll('a, button, input, textarea, [tabindex="0"]')].filter((one) => one.checkVisibility());
        all[0].focus();
        return [all[0].textContent.trim(), all[0].getBoundingClientRect().top >= 0];
      });
      assert.deepEqual(first, ['Skip to the message field', true]);
      await page.keyboard.press('Enter');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'composer');
    }));

  test('Escape stops', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.holdAfter = 20;
      await ask(page, 'a long answer');
      await page.waitForSelector('.answer[aria-busy=true] .block');
      await page.keyboard.press('Escape');
      mock.control.release();
      await answered(page);
      await page.waitForSelector('.answer footer >> text=Stopped');
    }));
});

describe('phone', () => {
  test('the drawer opens, goes somewhere and closes; targets are 44 pixels', () =>
    withPage(mock.base, { screen: 'phone' }, async (page) => {
      assert.equal(await page.locator('aside').isVisible(), false);
      await page.tap('header .menu');
      await page.waitForSelector('.frame.drawer');
      await page.tap('.list a[title^="Soup"]');
      await page.waitForSelector('h1 >> text=Soup');
      assert.equal(await page.evaluate(() => document.querySelector('.frame').classList.contains('drawer')), false);
      await ask(page, 'python please');
      await answered(page);
      await assertNoSideways(page);
      const small = await page.evaluate(() =>
        [...document.querySelectorAll('main button, main a, main input, main textarea')]
          .filter((one) => one.checkVisibility() && !one.closest('.prose') && !one.closest('[popover]'))
          .map((one) => [one.getAttribute('aria-label') ?? one.textContent.trim(), one.getBoundingClientRect()])
          .filter(([, box]) => box.width < 43.5 || box.height < 43.5)
          .map(([name, box]) => `${name} ${box.width}x${box.height}`),
      );
      assert.deepEqual(small, []);
    }));
});

describe('languages', () => {
  test('Arabic turns the page around', () =>
    withPage(`${mock.base}#/settings`, {}, async (page) => {
      await page.selectOption('select', 'ar');
      await page.waitForSelector('html[dir=rtl][lang=ar]');
      const box = await page.locator('aside').boundingBox();
      assert.ok(box.x > 900, 'the sidebar is on the right');
      await assertNoSideways(page);
      await page.reload();
      await page.waitForSelector('html[dir=rtl]');
    }));

  for (const screen of ['desktop', 'phone']) {
    test(`every view is clean from right to left on a ${screen}`, () =>
      withPage(mock.base, { screen }, async (page) => {
        await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ language: 'ar', welcomed: true })));
        await page.reload();
        await page.waitForSelector('html[dir=rtl]');
        await ask(page, 'python please');
        await answered(page);
        // Code keeps its own direction.
        assert.equal(await page.locator('.answer pre').first().evaluate((code) => getComputedStyle(code).direction), 'ltr');
        for (const view of ['', ...VIEWS]) {
          if (view !== '') await page.goto(mock.base + view);
          await page.waitForLoadState('networkidle');
          await assertAccessible(page);
          await assertNoSideways(page);
        }
      }));
  }

  test('the theme is kept', () =>
    withPage(`${mock.base}#/settings`, {}, async (page) => {
      await page.check('input[value=dark]');
      await page.reload();
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
    }));
});

describe('first visit', () => {
  test('leads to the first answer', async () => {
    const empty = await startMock({ delay_ms: 1 });
    try {
      await withPage(empty.base, {}, async (page) => {
        await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ welcomed: false })));
        await page.reload();
        await page.waitForSelector('h1 >> text=Your own AI');
        await page.click('button.solid');
        await page.press('#composer', 'Enter');
        assert.match(await answered(page), /moving is easier/);
      });
    } finally {
      empty.close();
    }
  });
});

describe('size', () => {
  async function withLarge(body) {
    const large = await startMock();
    const chat = addChat(large.store, { title: 'endless' });
    let parent = null;
    for (let n = 0; n < 10_000; n += 1) {
      const role = n % 2 === 0 ? 'user' : 'assistant';
      parent = addMessage(large.store, chat, { role, parent_id: parent, content: `Message ${n} with **bold** and \`code\`.`, created_at: n, finish_reason: 'stop', stats: role === 'assistant' ? stats(10, 10) : null }).id;
    }
    chat.head = parent;
    for (let n = 0; n < 5000; n += 1) addChat(large.store, { title: `chat ${n}`, at: Date.now() - (n + 1) * 60_000 });
    try {
      await withPage(large.base, {}, async (page) => {
        await page.waitForSelector('.list a[title=endless]');
        await body(page, large);
      });
    } finally {
      large.close();
    }
  }

  test('10,000 messages and 5,000 chats open fast', () =>
    withLarge(async (page, large) => {
        const times = [];
        // The best of three: other programs take turns on the machine that tests.
        for (let n = 0; n < 3; n += 1) {
          times.push(
            await page.evaluate(async () => {
              const picture = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
              const began = performance.now();
              document.querySelector('.list a[title=endless]').click();
              while (!document.querySelector('.answer .prose')) await picture();
              await picture();
              return performance.now() - began;
            }),
          );
          // All of it has come when there is something before what is drawn.
          await page.waitForSelector('.column > .button');
          await page.reload();
          await page.goto(large.base);
          await page.waitForSelector('.list a[title=endless]');
        }
        const took = Math.min(...times);
        console.log(`# 10,000 messages, 5,000 chats: first picture after ${times.map((time) => time.toFixed(0)).join(', ')} ms`);
        assert.ok(took < 300, `${took} ms`);
    }));

  test('both are read to their ends with few of them drawn', () =>
    withLarge(async (page) => {
      await page.click('.list a[title=endless]');
      await page.waitForSelector('.column > .button');
      const name = () => page.evaluate(() => document.querySelector('article').textContent.match(/Message (\d+)/)[1]);
      for (let n = 0; n < 6; n += 1) {
        const before = await name();
        await page.evaluate(() => document.querySelector('.scroller').scrollTo(0, 0));
        await page.waitForFunction((old) => document.querySelector('article').textContent.match(/Message (\d+)/)[1] !== old, before);
      }
      assert.ok((await page.locator('article').count()) <= 120);
      await page.click('button[aria-label="To the end"]');
      await page.waitForSelector('.answer >> text=Message 9999');

      const list = page.locator('.list');
      await page.waitForFunction(
        () => {
          const list = document.querySelector('.list');
          list.scrollTop = list.scrollHeight;
          return document.querySelector('.list a[title="chat 1199"]') !== null;
        },
        undefined,
        { timeout: 60_000 },
      );
      assert.ok((await list.locator('li').count()) < 200, 'few rows are drawn');
      const places = await list.locator('li').evaluateAll((rows) => rows.map((row) => [Number(row.ariaPosInSet), Number(row.ariaSetSize)]));
      assert.ok(places.every(([at, of]) => at >= 1 && at <= of) && places.some(([, of]) => of > 300), 'each row says where it stands');
    }));
});
