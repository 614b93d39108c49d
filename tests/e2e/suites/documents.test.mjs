// Documents on the page: drop, progress, failures with what to do, search, and citations that open their passage.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { addDocument } from '../mock/documents.mjs';
import { startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ delay_ms: 2 });
});
after(async () => {
  await shut();
  mock.close();
});

const file = (name, text = 'Some text about bread.') => ({ name, mimeType: 'text/plain', buffer: Buffer.from(text) });

/** Drops a file onto what `selector` finds, as a person would from a folder. */
async function drop(page, selector, name, text) {
  const transfer = await page.evaluateHandle(
    ([name, text]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], name, { type: 'text/plain' }));
      return transfer;
    },
    [name, text],
  );
  await page.dispatchEvent(selector, 'dragover', { dataTransfer: transfer });
  await page.dispatchEvent(selector, 'drop', { dataTransfer: transfer });
}

for (const screen of ['desktop', 'phone']) {
  test(`files are chosen, read, refused and deleted on a ${screen}`, () =>
    withPage(mock.base, { screen, allow: [/400/] }, async (page) => {
      mock.store.documents.clear();
      await page.goto(`${mock.base}#/documents`);
      await page.waitForSelector('text=There are no documents yet.');
      await assertAccessible(page);
      await page.setInputFiles('.drop input', [file('guide.md'), file('secret.pdf'), file('all.zip')]);
      await page.waitForSelector('li:has-text("guide.md") >> text=Can be found and cited');
      await page.waitForSelector('li:has-text("secret.pdf") >> text=remove its password');
      await page.waitForSelector('text=add the files inside');
      await assertAccessible(page);
      await assertNoSideways(page);
      await page.click('li:has-text("secret.pdf") >> button:has-text("Try again")');
      await page.waitForSelector('li:has-text("secret.txt") >> text=Can be found and cited');
      // A name opens its document, and what goes for good is asked about first.
      await page.click('h2 button:has-text("secret.txt")');
      await page.waitForSelector('.passage h2 >> text=secret.txt');
      await page.waitForSelector('.passage .text p');
      await assertAccessible(page);
      await page.keyboard.press('Escape');
      await page.waitForSelector('.passage', { state: 'detached' });
      await page.click('button[aria-label="Delete secret.txt"]');
      await page.waitForSelector('dialog >> text=goes for good');
      assert.equal(mock.store.documents.size, 2);
      await page.click('dialog button.danger');
      await page.waitForSelector('li:has-text("secret.txt")', { state: 'detached' });
      assert.equal(mock.store.documents.size, 1);
    }));

  test(`a search opens the passage on a ${screen}`, () =>
    withPage(mock.base, { screen }, async (page) => {
      mock.store.documents.clear();
      addDocument(mock.store, { filename: 'harbour.pdf' });
      await page.goto(`${mock.base}#/documents`);
      await page.fill('.find input', 'a loaf');
      await page.press('.find input', 'Enter');
      await page.click('.hit');
      assert.match(await page.locator('.passage mark').innerText(), /^Fresh bread is sold .* Thursdays\.$/s);
      assert.equal(await page.locator('.passage .page-number').innerText(), 'p. 7');
      await assertAccessible(page);
      await assertNoSideways(page);
      await page.keyboard.press('Escape');
      await page.waitForSelector('.passage', { state: 'detached' });
    }));
}

test('a file dropped onto a chat is cited in its answer, and the citation opens its passage, also after a reload', () =>
  withPage(mock.base, { allow: [/404/] }, async (page) => {
    mock.store.documents.clear();
    const text = `${'Nothing of note. '.repeat(400)}Fresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays. 𝌆 ${'The end is far. '.repeat(400)}`;
    await drop(page, '.chat', 'harbour.md', text);
    await page.waitForSelector('.shelf >> text=harbour.md');
    await ask(page, 'Who sells bread?');
    await answered(page);
    await page.click('.sources button');
    const mark = page.locator('.passage mark');
    assert.match(await mark.innerText(), /^Fresh bread .* Thursdays\.$/);
    assert.ok(await mark.evaluate((element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    }), 'the passage is in sight');
    await assertAccessible(page);
    // The mark in the text opens it too; a number that no passage has is text.
    [...mock.store.messages.values()].at(-1).content = 'Anselm Rook [1], not [7].';
    await page.reload();
    await page.click('.prose .cite');
    await page.waitForSelector('.passage mark');
    assert.equal(await page.locator('.prose .cite').count(), 1);
    await assertAccessible(page);
    await page.click('.shelf button');
    await page.waitForSelector('.shelf', { state: 'detached' });
    const chat = [...mock.store.chats.values()].at(-1);
    assert.deepEqual(chat.collections, []);
    // What was cited stays readable when its document is gone.
    mock.store.documents.clear();
    await page.reload();
    await page.click('.sources button');
    await page.waitForSelector('.passage .notice >> text=no longer here');
    assert.match(await mark.innerText(), /^Fresh bread/);
  }));

test('a document of the library is asked by itself', () =>
  withPage(mock.base, {}, async (page) => {
    mock.store.documents.clear();
    addDocument(mock.store, { filename: 'harbour.pdf' });
    await page.goto(`${mock.base}#/documents`);
    await page.click('button:has-text("Ask about it")');
    await page.waitForSelector('.shelf >> text=harbour.pdf');
    await ask(page, 'Who sells bread?');
    await answered(page);
    assert.match(await page.locator('.sources').innerText(), /harbour\.pdf\s*p\. 7/);
  }));

test('a collection is made, filled, searched, asked and dissolved', () =>
  withPage(mock.base, {}, async (page) => {
    mock.store.documents.clear();
    mock.store.collections.clear();
    addDocument(mock.store, { filename: 'harbour.pdf' });
    addDocument(mock.store, { filename: 'recipes.pdf' });
    await page.goto(`${mock.base}#/documents`);
    await page.click('button[aria-label="New collection"]');
    await page.fill('input[aria-label="Name of the collection"]', 'Quillport');
    await page.keyboard.press('Enter');
    await page.waitForSelector('text=Nothing is in this collection yet');
    await page.click('button:has-text("All documents")');
    await page.click('button[aria-label="Collections of harbour.pdf"]');
    await page.click('[role=menuitem]:has-text("Add to Quillport")');
    await page.click('.shelves button:has-text("Quillport")');
    await page.waitForSelector('li:has-text("harbour.pdf")');
    assert.equal(await page.locator('li:has-text("recipes.pdf")').count(), 0);
    await page.fill('.find input', 'a loaf');
    await page.press('.find input', 'Enter');
    await page.waitForSelector('.hit');
    assert.equal(await page.locator('.hit').count(), 1);
    await assertAccessible(page);
    await page.click('button:has-text("Ask this collection")');
    await page.waitForSelector('.shelf >> text=Quillport');
    await ask(page, 'Who sells bread?');
    await answered(page);
    assert.match(await page.locator('.sources').innerText(), /harbour\.pdf/);
    await page.goto(`${mock.base}#/documents`);
    await page.click('.shelves button:has-text("Quillport")');
    await page.click('button:has-text("Delete the collection")');
    await page.waitForSelector('li:has-text("recipes.pdf")');
    assert.equal(mock.store.collections.size, 0);
    assert.equal(mock.store.documents.size, 2);
  }));
