// The page of amd-gaia 0.17.5 as it came, on an appliance with a real model: ONEBIT_URL=... ONEBIT_GAIA=0.17.5 node --test gaia/
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { shut, until, withPage } from '../support/page.mjs';

const root = process.env.ONEBIT_URL;
const skip = process.env.ONEBIT_GAIA !== '0.17.5';
let base;
before(() => {
  base = new URL('/gaia/', root).href;
});
after(shut);

/** A small model on a busy machine needs its time. */
const SLOW = { timeout: 120_000 };
const READY = { ready: '.session-list' };

const shot = async (page, name) => {
  if (process.env.ONEBIT_SHOTS) await page.screenshot({ path: `${process.env.ONEBIT_SHOTS}/gaia-${name}.png` });
};
const json = async (path, options) => (await fetch(new URL(path, root), options)).json();

/** Begins a task, as a person who has just opened the page. */
const begin = async (page) => {
  const start = page.locator('.start-btn');
  if (await start.count()) await start.click();
  else await page.click('.new-task-btn');
  await page.waitForSelector('.msg-input:enabled');
};
const ask = async (page, text) => {
  await page.fill('.msg-input', text);
  await page.click('.send-btn');
};
/** Waits until the last answer stands, with what it cost. */
const finished = async (page) => {
  await page.waitForSelector('.stop-btn', { state: 'detached', ...SLOW });
  await page.waitForSelector('[aria-label="Message performance stats"]', SLOW);
};

test('the content policy lets it reach this appliance alone', { skip }, async () => {
  const response = await fetch(base);
  const policy = response.headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'; script-src 'self';/);
  assert.match(policy, /connect-src 'self'/);
  assert.equal((await fetch(new URL('/gaia', root), { redirect: 'manual' })).status, 307);
  assert.equal((await fetch(new URL('/gaia/../onebit.db', root))).status, 404);
});

test('a task is begun, streamed, named, renamed, exported and deleted', { skip }, () =>
  // The page itself still asks for the messages of a task that it has just deleted.
  withPage(base, { ...READY, allow: [/status of 404/, /Session not found/] }, async (page) => {
    await shot(page, 'start');
    await begin(page);
    await ask(page, 'Name one colour.');
    await page.waitForSelector('.streaming-bubble', SLOW);
    await finished(page);
    await shot(page, 'answer');
    assert.match(await page.locator('[aria-label="Message performance stats"]').last().innerText(), /tok/);
    await page.waitForSelector('.session-title >> text=Name one colour.');

    await page.click('button[aria-label="Rename chat"]');
    const name = `colours ${Date.now()}`;
    await page.fill('.title-edit', name);
    await page.press('.title-edit', 'Enter');
    await page.waitForSelector(`.session-title >> text=${name}`);
    const session = (await json('/api/sessions')).sessions.find((one) => one.title === name);
    assert.equal(session.message_count, 2);
    // The same chat on the appliance's own page.
    assert.equal((await json(`/onebit/chats/${session.id}`)).chat.title, name);

    const [download] = await Promise.all([page.waitForEvent('download'), page.click('button[aria-label="Export chat"]')]);
    assert.equal(download.suggestedFilename(), `${name}.md`);
    const text = await readFile(await download.path(), 'utf8');
    assert.match(text, /Name one colour\./);

    await page.reload();
    await page.click(`[aria-label="Open task: ${name}"]`);
    await page.waitForSelector('text=Name one colour.');
    await page.hover(`[aria-label="Open task: ${name}"]`);
    await page.click(`[aria-label="Delete: ${name}"]`);
    await page.click(`[aria-label="Confirm delete: ${name}"]`);
    await page.waitForSelector(`[aria-label="Open task: ${name}"]`, { state: 'detached' });
    await until(async () => (await fetch(new URL(`/api/sessions/${session.id}`, root))).status === 404, 'it is deleted');
  }));

test('an answer is stopped, and what has come stays', { skip }, () =>
  withPage(base, READY, async (page) => {
    await begin(page);
    await ask(page, 'Write a very long story about a river, with many chapters.');
    await page.waitForFunction(() => document.querySelector('.streaming-bubble p')?.innerText.trim().length > 20, undefined, SLOW);
    await page.click('.stop-btn');
    await page.waitForSelector('.stop-btn', { state: 'detached' });
    const { sessions } = await json('/api/sessions');
    const kept = async () => (await json(`/api/sessions/${sessions[0].id}/messages`)).messages;
    await until(async () => (await kept()).length === 2, 'the answer is stored as far as it came');
    assert.notEqual((await kept())[1].content, '');
  }));

test('a document is sent, asked about, and its passage is shown, also after a reload', { skip }, () =>
  withPage(base, READY, async (page) => {
    await begin(page);
    await page.click('button[aria-label="Upload document"]');
    const library = page.locator('[aria-label="Document Library"]');
    const name = `harbour-${Date.now()}.md`;
    const text = `# Harbour guide ${name}\n\nFresh bread is sold by the baker Anselm Rook behind the chandlery.\n`;
    const dropped = await page.evaluateHandle(([file, words]) => {
      const all = new DataTransfer();
      all.items.add(new File([words], file, { type: 'text/markdown' }));
      return all;
    }, [name, text]);
    await library.locator('.drop-zone').dispatchEvent('drop', { dataTransfer: dropped });
    await library.locator(`text=${name}`).first().waitFor(SLOW);
    await library.locator('text=/[1-9][0-9]* chunks/').first().waitFor(SLOW);
    await shot(page, 'library');
    const attach = library.locator(`[aria-label="Attach ${name}"]`);
    if (await attach.count()) await attach.click();
    const close = page.locator('[aria-label="Close document library"]');
    if (await close.count()) await close.click();
    await ask(page, 'Who sells bread?');
    await finished(page);
    const seen = async () => {
      await page.locator('.agent-summary-bar[aria-expanded=false]').last().click();
      const step = page.locator('.flow-tool', { hasText: 'Searched documents' }).last();
      if (!(await step.locator('.flow-tool-detail').count())) await step.locator('.flow-tool-header').click();
      await page.locator('.chunk-card', { hasText: name }).first().waitFor();
      assert.match(await page.locator('.chunk-card').first().innerText(), /Anselm Rook/);
    };
    await seen();
    await shot(page, 'sources');
    const { sessions } = await json('/api/sessions');
    const { messages } = await json(`/api/sessions/${sessions[0].id}/messages`);
    assert.equal(messages.at(-1).rag_sources[0].filename, name);
    await page.reload();
    await page.locator('.session-item').first().click();
    await page.waitForSelector('text=Who sells bread?');
    await seen();
  }));

test('settings choose a model and take the choice back', { skip }, () =>
  withPage(base, READY, async (page) => {
    const { default_model_name: model } = await json('/api/system/status');
    await page.click('button[aria-label=Settings]');
    const dialog = page.locator('[aria-label=Settings][role=dialog]');
    await dialog.locator('[aria-label="Custom model override"]').fill(model);
    await dialog.locator('[aria-label="Save custom model"]').click();
    await dialog.locator('text=Saved').waitFor();
    await shot(page, 'settings');
    assert.equal((await json('/api/settings')).custom_model, model);
    await dialog.locator('[aria-label="Custom model override"]').fill('');
    await dialog.locator('[aria-label="Save custom model"]').click();
    await until(async () => (await json('/api/settings')).custom_model === null, 'no model is chosen');
    await page.click('[aria-label="Close settings"]');
  }));

test('no phone can come to an appliance that speaks to itself alone, and it says so', { skip }, async () => {
  const started = await json('/api/tunnel/start', { method: 'POST' });
  assert.equal(started.active, false);
  assert.match(started.error, /server\.listen/);
});
