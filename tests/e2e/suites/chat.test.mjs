// The chat, end to end, against the mock: send, watch, stop, again, edit, branch, come back.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, test } from 'node:test';
import { addChat, addMessage, startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ delay_ms: 2 });
});
beforeEach(() => {
  mock.control.release();
  mock.store.chats.clear();
  mock.store.messages.clear();
  mock.store.turns.clear();
});
after(async () => {
  await shut();
  mock.close();
});

const refused = [/status of (429|503|400)/];

for (const screen of ['desktop', 'phone']) {
  describe(`chat on a ${screen}`, () => {
    test('streams an answer with code, and the list names the chat', () =>
      withPage(mock.base, { screen }, async (page) => {
        mock.control.holdAfter = 60;
        await ask(page, 'Write a Python function for duplicates.');
        await page.waitForSelector('.answer[aria-busy=true] figure');
        assert.equal(await page.locator('.question .text').innerText(), 'Write a Python function for duplicates.');
        assert.match(page.url(), /#\/chat\/[0-9a-f]{24}$/);
        mock.control.release();
        const text = await answered(page);
        assert.match(text, /Two things to know/);
        await page.waitForSelector('.hljs-keyword');
        assert.match(await page.locator('.answer .reading').last().innerText(), /94\.3 tok\/s/);
        await page.waitForSelector('nav li a[aria-current=page] >> text=Write a Python function', { state: 'attached' });
      }));

    test('answers again, edits, and walks the branches; a reload keeps the place', () =>
      withPage(mock.base, { screen }, async (page) => {
        await ask(page, 'one');
        assert.match(await answered(page), /version 1/);
        await page.click('.answer button[aria-label="Answer again"]');
        await page.waitForSelector('.answer .branches >> text=2/2');
        assert.match(await answered(page), /version 2/);
        await page.click('.answer button[aria-label="Previous version"]');
        await page.waitForSelector('.answer .prose >> text=version 1');

        await page.hover('.question');
        await page.click('.question button[aria-label=Edit]');
        await page.fill('.edit textarea', 'another one');
        await page.press('.edit textarea', 'Enter');
        await page.waitForSelector('.question .branches >> text=2/2');
        assert.match(await answered(page), /You wrote: another one/);
        await page.reload();
        await page.waitForSelector('.question .branches >> text=2/2');
        await page.click('.question button[aria-label="Previous version"]');
        await page.waitForSelector('.question .text >> text=/^one$/');
        await page.waitForSelector('.answer .branches');
      }));

    test('stops, and goes on when asked to', () =>
      withPage(mock.base, { screen }, async (page) => {
        mock.control.holdAfter = 20;
        await ask(page, 'a long answer');
        await page.waitForSelector('.answer[aria-busy=true] .block');
        await page.click('button.stop');
        mock.control.release();
        await answered(page);
        assert.match(await page.locator('.answer footer').innerText(), /Stopped/);
        await page.click('.answer button:has-text("Continue")');
        await page.waitForSelector('.question >> text=Go on exactly');
        await answered(page);
        assert.equal(await page.locator('.answer').count(), 2);
      }));

    test('a full queue says so, and trying again works', () =>
      withPage(mock.base, { screen, allow: refused }, async (page) => {
        mock.control.failNext = { status: 429, code: 'queue_full', message: '4 answers wait already' };
        await ask(page, 'one');
        await page.waitForSelector('.notice >> text=The appliance is busy');
        assert.equal(await page.locator('.question .text').innerText(), 'one');
        await page.click('.notice button');
        assert.match(await answered(page), /version 1/);
        assert.equal(await page.locator('.question').count(), 1);
      }));
  });
}

// A red square of 4 by 4.
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAEElEQVR42mP4z8AARwzEcQCukw/xOF6MEQAAAABJRU5ErkJggg==';

describe('chat', () => {
  test('a picture goes with the question to a model that sees, and to no other', () =>
    withPage(mock.base, {}, async (page) => {
      const model = mock.store.models[0];
      const choose = () => page.setInputFiles('.composer input[type=file]', { name: 'red.png', mimeType: 'image/png', buffer: Buffer.from(PNG, 'base64') });
      await choose();
      await page.waitForSelector('.notes >> text=No model here can see pictures');
      model.sees = true;
      await page.reload();
      await page.waitForSelector('.pick');
      await choose();
      await page.waitForSelector('.composer .pictures img');
      await page.click('button[aria-label="Take picture 1 away"]');
      // Pasting does the same as choosing.
      await page.evaluate((bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], 'red.png', { type: 'image/png' }));
        document.getElementById('composer').dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
      }, PNG);
      await page.waitForSelector('.composer .pictures img');
      await assertAccessible(page);
      await ask(page, 'What is it?');
      await answered(page);
      assert.equal(await page.locator('.composer .pictures').count(), 0);
      const seen = () => page.locator('.question .pictures img').evaluateAll((all) => all.map((one) => one.complete && one.naturalWidth));
      assert.deepEqual(await seen(), [4]);
      // Asked differently, it is still about the picture.
      await page.hover('.question');
      await page.click('.question button[aria-label=Edit]');
      await page.fill('.edit textarea', 'Which colour?');
      await page.press('.edit textarea', 'Enter');
      await page.waitForSelector('.question .branches >> text=2/2');
      await answered(page);
      assert.deepEqual([...mock.store.pictures.values()].map((all) => all.map((one) => one.slice(0, 15))), [['data:image/jpeg'], ['data:image/jpeg']]);
      model.sees = false;
    }));

  test('tells the place in the queue, what was left out, and what the answer took', () =>
    withPage(mock.base, {}, async (page) => {
      Object.assign(mock.control, { queue: [2, 0], leftOut: 3, holdAfter: 0 });
      const next = () => mock.control.waiting.splice(0).forEach((resume) => resume());
      await ask(page, 'one');
      await page.waitForSelector('.answer >> text=In the queue: 2 before this one');
      next();
      await page.waitForSelector('.answer >> text=Next in the queue');
      next();
      await page.waitForSelector('.answer >> text=its 3 oldest messages were left out');
      Object.assign(mock.control, { queue: [], leftOut: 0 });
      mock.control.release();
      await answered(page);
      assert.match(await page.locator('.answer .reading').last().innerText(), /31\.5|32 J/);
    }));

  test('finished blocks are never rendered again while the answer grows', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.holdAfter = 150;
      await ask(page, 'a long answer');
      await page.waitForSelector('.answer .block:nth-child(6)');
      await page.evaluate(() => {
        const blocks = [...document.querySelectorAll('.answer .block')].slice(0, -1);
        globalThis.changed = 0;
        const observer = new MutationObserver((records) => (globalThis.changed += records.length));
        for (const block of blocks) observer.observe(block, { childList: true, subtree: true, characterData: true });
      });
      const first = await page.$('.answer .block');
      mock.control.release();
      await answered(page);
      assert.equal(await page.evaluate(() => globalThis.changed), 0);
      assert.ok(await first.evaluate((block) => block.isConnected), 'the end of the answer draws nothing anew');
    }));

  test('a reload takes the running answer up again', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.holdAfter = 30;
      await ask(page, 'Explain a heat pump');
      await page.waitForSelector('.answer[aria-busy=true] .block');
      await page.reload();
      await page.waitForSelector('.answer[aria-busy=true] .prose >> text=fridge');
      mock.control.release();
      assert.match(await answered(page), /moving is easier than making/);
      assert.equal(await page.locator('.question').count(), 1);
      assert.equal(await page.locator('.answer').count(), 1);
    }));

  test('several chats write at once', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.holdAfter = 10;
      await ask(page, 'first, a long answer');
      await page.waitForSelector('.answer[aria-busy=true] .block');
      await page.click('.sidebar .new');
      await ask(page, 'second, heat pump');
      await page.waitForSelector('.answer[aria-busy=true] .prose >> text=heat');
      assert.equal(await page.locator('.list .bit.live').count(), 2);
      mock.control.release();
      assert.match(await answered(page), /moving is easier/);
      await page.click('.list a[title^=first]');
      assert.match(await answered(page), /Part 40/);
    }));

  test('thoughts fold away when the answer begins', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'think of a prime');
      assert.match(await answered(page), /Thirteen/);
      const fold = page.locator('.answer section button');
      assert.equal(await fold.getAttribute('aria-expanded'), 'false');
      await fold.click();
      await page.waitForSelector('.answer section >> text=Twelve is not prime');
      // How long it thought is still told when the chat is opened again.
      await page.reload();
      await page.waitForSelector('.answer section >> text=/Thought for [0-9]/');
    }));

  test('a draft is kept for each chat', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'one');
      await answered(page);
      await page.fill('#composer', 'half a thought');
      await page.click('.sidebar .new');
      assert.equal(await page.inputValue('#composer'), '');
      await page.goBack();
      assert.equal(await page.inputValue('#composer'), 'half a thought');
      await page.reload();
      assert.equal(await page.inputValue('#composer'), 'half a thought');
    }));

  test('copies over plain http too', () =>
    withPage(mock.base, {}, async (page) => {
      await page.addInitScript(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }));
      await page.reload();
      await page.evaluate(() => document.addEventListener('copy', () => (globalThis.taken = String(getSelection() ?? '') || document.activeElement?.value)));
      await ask(page, 'python please');
      await answered(page);
      await page.click('.answer figure button:has-text("Copy")');
      await page.waitForSelector('figure >> text=Copied');
      assert.match(await page.evaluate(() => globalThis.taken), /^from collections import/);
    }));

  test('says what it waits for', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.holdAfter = 0;
      const [model] = mock.store.models;
      try {
        Object.assign(model, { waiting: 3 });
        await ask(page, 'one');
        await page.waitForSelector('.answer >> text=In the queue: 3 waiting');
        Object.assign(model, { waiting: 0, state: 'loading' });
        await page.waitForSelector('.answer >> text=Loading the model');
      } finally {
        Object.assign(model, { waiting: 0, state: 'loaded' });
        mock.control.release();
      }
      await answered(page);
    }));

  test('the model under an answer says why it runs where it runs', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'one');
      await answered(page);
      await page.click('.answer .model');
      await page.waitForSelector('dialog >> text=the first token comes soonest here');
      assert.equal(await page.locator('dialog tbody tr').count(), 2);
      await page.waitForSelector('dialog >> text=no NPU of a kind');
      await assertAccessible(page);
    }));

  test('a picture is refused in words, a pasted file is added', () =>
    withPage(mock.base, {}, async (page) => {
      const paste = (name, type) =>
        page.evaluate(
          ([name, type]) => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File(['some text about bread'], name, { type }));
            document.getElementById('composer').dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
          },
          [name, type],
        );
      await paste('cat.png', 'image/png');
      await page.waitForSelector('.notes >> text=No model here can see pictures');
      await paste('notes.txt', 'text/plain');
      await page.waitForSelector('.shelf >> text=notes.txt');
    }));

  test('a saved chat comes back, as JSON with its versions and as Markdown', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'one');
      await answered(page);
      await page.click('.answer button[aria-label="Answer again"]');
      await page.waitForSelector('.answer .branches >> text=2/2');
      await answered(page);
      for (const [verb, versions] of [['Save as JSON', 1], ['Save as Markdown', 0]]) {
        const saved = page.waitForEvent('download');
        await page.click('header button[aria-label="What to do with this chat"]');
        await page.click(`[role=menuitem]:has-text("${verb}")`);
        const path = await (await saved).path();
        const name = (await saved).suggestedFilename();
        const before = page.url();
        await page.goto(`${mock.base}#/settings`);
        const chooser = page.waitForEvent('filechooser');
        await page.click('.row:has-text("Import a chat") button');
        await (await chooser).setFiles({ name, mimeType: 'text/plain', buffer: await readFile(path) });
        await page.waitForSelector('.answer .prose >> text=version 2');
        assert.notEqual(page.url(), before);
        assert.equal(await page.locator('.answer .branches').count(), versions);
      }
      await page.goto(`${mock.base}#/settings`);
      const chooser = page.waitForEvent('filechooser');
      await page.click('.row:has-text("Import a chat") button');
      await (await chooser).setFiles({ name: 'tax.md', mimeType: 'text/markdown', buffer: Buffer.from('nothing') });
      await page.waitForSelector('.notes >> text=tax.md holds no chat');
    }));

  test('a saved chat keeps its pictures and its thoughts, in both forms', () =>
    withPage(mock.base, {}, async (page) => {
      const chat = addChat(mock.store, { title: 'Eyes' });
      const question = addMessage(mock.store, chat, { role: 'user', content: 'Which colour?', pictures: 1, finish_reason: 'stop' });
      mock.store.pictures.set(question.id, [`data:image/png;base64,${PNG}`]);
      chat.head = addMessage(mock.store, chat, { role: 'assistant', parent_id: question.id, content: 'Red.', reasoning: 'It looks red.', finish_reason: 'stop', created_at: Date.now() + 1 }).id;
      for (const verb of ['Save as JSON', 'Save as Markdown']) {
        await page.goto(`${mock.base}#/chat/${chat.id}`);
        await page.waitForSelector('.answer .prose >> text=Red.');
        const saved = page.waitForEvent('download');
        await page.click('header button[aria-label="What to do with this chat"]');
        await page.click(`[role=menuitem]:has-text("${verb}")`);
        const file = { name: (await saved).suggestedFilename(), mimeType: 'text/plain', buffer: await readFile(await (await saved).path()) };
        await page.goto(`${mock.base}#/settings`);
        const chooser = page.waitForEvent('filechooser');
        await page.click('.row:has-text("Import a chat") button');
        await (await chooser).setFiles(file);
        await page.waitForURL((url) => url.hash.startsWith('#/chat/') && !url.hash.endsWith(chat.id));
        await page.waitForFunction(() => document.querySelector('.question .pictures img')?.naturalWidth === 4);
        await page.click('.answer section button');
        await page.waitForSelector('.answer section >> text=It looks red.');
        assert.equal(await page.locator('.answer .prose').last().innerText(), 'Red.');
      }
    }));

  test('a chat that cannot begin leaves what was written', () =>
    withPage(mock.base, { allow: [/Failed to load resource/] }, async (page) => {
      await page.route('**/onebit/chats', (route) => (route.request().method() === 'POST' ? route.abort() : route.fallback()));
      await ask(page, 'a long thought');
      await page.waitForSelector('.notice >> text=does not answer');
      assert.equal(await page.inputValue('#composer'), 'a long thought');
    }));

  test('an answer that a stop of the appliance cut says so', () =>
    withPage(mock.base, {}, async (page) => {
      const chat = addChat(mock.store, { title: 'Cut' });
      const question = addMessage(mock.store, chat, { role: 'user', content: 'Why?', finish_reason: 'stop' });
      chat.head = addMessage(mock.store, chat, { role: 'assistant', parent_id: question.id, content: 'Beca', finish_reason: 'interrupted', created_at: Date.now() + 1 }).id;
      await page.goto(`${mock.base}#/chat/${chat.id}`);
      await page.waitForSelector('.answer footer >> text=Cut off when the appliance stopped');
      await page.waitForSelector('.answer button:has-text("Continue")');
    }));

  test('hostile Markdown does nothing', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'hostile');
      await answered(page);
      assert.equal(await page.locator('.answer .prose :is(img, script, b)').count(), 0);
      const links = await page.locator('.answer .prose a').evaluateAll((all) => all.map((one) => new URL(one.href).protocol));
      assert.deepEqual(links, ['https:', 'https:']);
    }));
});

describe('failure', () => {
  test('an engine that dies leaves the part that came', () =>
    withPage(mock.base, {}, async (page) => {
      mock.control.breakAfter = 20;
      await ask(page, 'heat pump');
      await page.waitForSelector('.notice >> text=broke off');
      assert.match(await page.locator('.answer .prose').innerText(), /fridge/);
      await page.click('.notice button');
      assert.match(await answered(page), /moving is easier/);
    }));

  test('a chat that is gone says so', () =>
    withPage(mock.base, { allow: [/404/] }, async (page) => {
      await page.goto(`${mock.base}#/chat/000000000000000000000000`);
      await page.waitForSelector('.notice >> text=no longer here');
    }));
});

describe('list', () => {
  test('renames, pins, finds and deletes', () =>
    withPage(mock.base, {}, async (page) => {
      await ask(page, 'about whales');
      await answered(page);
      const menu = async (name) => {
        await page.hover('.list li');
        await page.click('.list li .more button');
        await page.click(`[role=menuitem]:has-text("${name}")`);
      };
      await menu('Rename');
      await page.fill('dialog input', 'Sea');
      await page.press('dialog input', 'Enter');
      await page.waitForSelector('.list a[title=Sea]');
      await menu('Pin');
      await page.waitForSelector('.list h2 >> text=Pinned');
      await page.fill('#search', 'whales');
      await page.waitForSelector('.list h2 >> text=Found');
      await page.waitForSelector('.list a[title=Sea]');
      await page.fill('#search', 'nothing of the kind');
      await page.waitForSelector('.list >> text=Nothing found');
      await page.fill('#search', '');
      await page.waitForSelector('.list a[title=Sea]');
      await menu('Delete');
      await page.click('dialog button.danger');
      await page.waitForSelector('.list >> text=will be listed');
      assert.match(page.url(), /#\/$/);
    }));
});
