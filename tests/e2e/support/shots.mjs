// Takes a picture of every view, in dark and light, on a wide screen and on a phone: node support/shots.mjs FOLDER
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { startMock } from '../mock/server.mjs';
import { addDocument, passageOf } from '../mock/documents.mjs';
import { answer } from '../mock/answers.mjs';
import { addMessage, stats } from '../mock/store.mjs';

const folder = process.argv[2] ?? 'results/shots';
const only = process.argv[3];
mkdirSync(folder, { recursive: true });
const mock = await startMock({ furnished: true, delay_ms: 5 });
const chats = [...mock.store.chats.values()];

// Two conversations with something to look at.
for (const [chat, asked] of [
  [chats[0], 'Explain how a heat pump works to a curious ten-year-old.'],
  [chats[1], 'Write a Python function that finds duplicate files in a folder.'],
]) {
  const question = addMessage(mock.store, chat, { role: 'user', content: asked, created_at: 1 });
  const reply = (version, at) => addMessage(mock.store, chat, { role: 'assistant', parent_id: question.id, content: answer(asked, version), model: chat.model, created_at: at, finish_reason: 'stop', stats: stats(214, 386) });
  // The furnished short exchange goes, so that the picture shows one tree.
  for (const message of [...mock.store.messages.values()]) if (message.chat === chat.id && message.id !== question.id) mock.store.messages.delete(message.id);
  reply(1, 2);
  chat.head = reply(2, 3).id;
}

// A library, and a chat that is answered from it.
const shelf = { id: 'quillport', name: 'Quillport', created_at: '2026-01-02T10:00:00Z' };
mock.store.collections.set(shelf.id, shelf);
const guide = addDocument(mock.store, { filename: 'harbour-guide.pdf', pages: 12, chunk_count: 3, bytes: 482_113, collections: [shelf.id] });
addDocument(mock.store, { filename: 'contract.pdf', status: 'failed', error_kind: 'encrypted', last_error: 'the file is encrypted; remove its password and add it again', bytes: 90_244 });
{
  const chat = chats[4];
  const [, reply] = [...mock.store.messages.values()].filter((message) => message.chat === chat.id);
  Object.assign(reply, { content: 'Fresh bread is sold by **Anselm Rook** behind the chandlery [1]. He closes on Thursdays.', citations: [passageOf(guide)] });
  chat.collections = [shelf.id];
}

const SCREENS = {
  wide: { viewport: { width: 1440, height: 900 } },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};
const VIEWS = {
  opening: { hash: '#/' },
  chat: { hash: `#/chat/${chats[0].id}` },
  code: { hash: `#/chat/${chats[1].id}` },
  models: { hash: '#/models' },
  hits: {
    hash: '#/models',
    act: async (page) => {
      await page.fill('[role=search] input', 'small');
      await page.press('[role=search] input', 'Enter');
      await page.click('.hits button');
      await page.waitForSelector('.variants');
      await page.locator('.hits').scrollIntoViewIfNeeded();
    },
  },
  get: {
    hash: '#/models',
    act: async (page) => {
      await page.fill('[role=search] input', 'lab/small-model');
      await page.press('[role=search] input', 'Enter');
      await page.click('.variants button');
      await page.waitForSelector('text=Coming');
      await page.locator('.variants').scrollIntoViewIfNeeded();
    },
  },
  bench: {
    hash: '#/models',
    act: async (page) => {
      await page.click('button[aria-label^="More for SmolLM2"]');
      await page.click('[role=menuitem]:has-text("Measure")');
      await page.waitForSelector('dialog figure:nth-of-type(3)');
    },
  },
  setup: {
    hash: '#/models',
    act: async (page) => {
      await page.click('button[aria-label^="More for SmolLM2"]');
      await page.click('[role=menuitem]:has-text("Settings")');
    },
  },
  documents: { hash: '#/documents' },
  cited: {
    hash: `#/chat/${chats[4].id}`,
    act: async (page) => {
      await page.waitForSelector('.sources');
      await page.click('.prose .cite');
      await page.waitForSelector('.passage mark');
    },
  },
  why: {
    hash: `#/chat/${chats[0].id}`,
    act: async (page) => {
      await page.click('.answer .model');
      await page.waitForSelector('dialog table');
    },
  },
  agents: { hash: '#/agents' },
  tool: {
    hash: '#/agents',
    act: async (page) => {
      await page.waitForSelector('[role=radio]');
      await page.fill('textarea', 'Count the lines of my notes.');
      await page.click('button:has-text("Run")');
      await page.waitForSelector('.card button');
    },
  },
  done: {
    hash: '#/agents',
    act: async (page) => {
      await page.waitForSelector('[role=radio]');
      await page.fill('textarea', 'Count the lines of my notes.');
      await page.click('button:has-text("Run")');
      await page.click('.card button:has-text("Allow")');
      await page.click('.card summary');
      await page.waitForSelector('.prose >> text=212 lines');
    },
  },
  devices: { hash: '#/devices' },
  pairing: {
    hash: '#/devices',
    act: async (page) => {
      await page.click('button:has-text("Pair a device")');
      await page.waitForSelector('.digits');
    },
  },
  pictures: {
    hash: '#/',
    act: async (page) => {
      for (const model of mock.store.models) model.sees = true;
      await page.reload();
      await page.waitForSelector('.pick');
      const shot = await page.screenshot();
      const file = (name) => ({ name, mimeType: 'image/png', buffer: shot });
      await page.setInputFiles('.composer input[type=file]', [file('a.png'), file('b.png')]);
      await page.waitForSelector('.composer .pictures li:nth-child(2)');
      await page.fill('#composer', 'What is different between these two?');
      await page.press('#composer', 'Enter');
      await page.waitForSelector('.answer[aria-busy=false] footer .icon');
      await page.setInputFiles('.composer input[type=file]', [file('c.png')]);
      await page.waitForSelector('.composer .pictures img');
    },
  },
  queued: {
    hash: '#/',
    act: async (page) => {
      Object.assign(mock.control, { queue: [2], holdAfter: 0 });
      await page.fill('#composer', 'How far is the moon?');
      await page.press('#composer', 'Enter');
      await page.waitForSelector('.answer >> text=before this one');
    },
    after: () => {
      mock.control.queue = [];
      mock.control.release();
    },
  },
  door: {
    hash: '#/',
    act: async (page) => {
      mock.control.session.signed_in = false;
      await page.reload();
      await page.waitForSelector('input');
    },
    after: () => void (mock.control.session.signed_in = true),
  },
  thoughts: {
    hash: '#/',
    act: async (page) => {
      await page.fill('#composer', 'think of a prime');
      await page.press('#composer', 'Enter');
      await page.waitForSelector('.answer[aria-busy=false] footer .icon');
      await page.click('.answer section button');
    },
  },
  found: {
    hash: `#/chat/${chats[0].id}`,
    screens: ['wide'],
    act: async (page) => {
      await page.fill('#search', 'the');
      await page.waitForSelector('.list h2 >> text=Found');
    },
  },
  system: { hash: '#/system', act: (page) => page.waitForTimeout(4500) },
  doctor: {
    hash: '#/system',
    act: async (page) => {
      await page.click('button:has-text("Look at the machine")');
      await page.waitForSelector('pre');
      await page.locator('.box').scrollIntoViewIfNeeded();
    },
  },
  settings: { hash: '#/settings' },
  welcome: { hash: '#/welcome' },
  arabic: {
    hash: `#/chat/${chats[0].id}`,
    act: async (page) => {
      await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ language: 'ar', welcomed: true })));
      await page.reload();
      await page.waitForSelector('html[dir=rtl] .answer');
    },
    after: (page) => page.evaluate(() => localStorage.clear()),
  },
  arabic_tool: {
    hash: '#/agents',
    act: async (page) => {
      await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ language: 'ar', welcomed: true })));
      await page.reload();
      await page.waitForSelector('html[dir=rtl] [role=radio]');
      await page.fill('textarea', 'Count the lines of my notes.');
      await page.click('form .solid');
      await page.waitForSelector('.card button');
    },
    after: (page) => page.evaluate(() => localStorage.clear()),
  },
  arabic_system: {
    hash: '#/system',
    act: async (page) => {
      await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ language: 'ar', welcomed: true })));
      await page.reload();
      await page.waitForSelector('html[dir=rtl] .charts');
    },
    after: (page) => page.evaluate(() => localStorage.clear()),
  },
  arabic_documents: {
    hash: '#/documents',
    act: async (page) => {
      await page.evaluate(() => localStorage.setItem('onebit.settings', JSON.stringify({ language: 'ar', welcomed: true })));
      await page.reload();
      await page.waitForSelector('html[dir=rtl] .page li');
    },
    after: (page) => page.evaluate(() => localStorage.clear()),
  },
  edit: {
    hash: `#/chat/${chats[0].id}`,
    act: (page) => page.keyboard.press('Control+Shift+E'),
  },
  failure: {
    hash: `#/chat/${chats[3].id}`,
    act: async (page) => {
      mock.control.failNext = { status: 429, code: 'queue_full', message: '4 requests are already waiting; try again shortly' };
      await page.fill('#composer', 'And why is it dark between the stars?');
      await page.press('#composer', 'Enter');
      await page.waitForSelector('.notice');
    },
  },
  palette: { hash: `#/chat/${chats[0].id}`, act: (page) => page.keyboard.press('Control+k') },
  help: { hash: '#/models', act: (page) => page.keyboard.press('?') },
  picker: { hash: '#/', act: (page) => page.click('.pick') },
  drawer: { hash: `#/chat/${chats[0].id}`, screens: ['phone'], act: (page) => page.click('header .menu') },
  streaming: {
    hash: '#/',
    act: async (page) => {
      mock.control.holdAfter = 60;
      await page.fill('#composer', 'Write a Python function that finds duplicate files in a folder.');
      await page.click('button[type=submit]');
      await page.waitForSelector('.answer figure');
    },
    after: () => mock.control.release(),
  },
};

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--font-render-hinting=none'] });
for (const [screen, options] of Object.entries(SCREENS)) {
  for (const theme of ['light', 'dark']) {
    const context = await browser.newContext({ ...options, colorScheme: theme, reducedMotion: 'reduce', locale: 'en-GB' });
    for (const [name, view] of Object.entries(VIEWS)) {
      if ((view.screens && !view.screens.includes(screen)) || (only && !`${name}-${screen}-${theme}`.includes(only))) continue;
      const page = await context.newPage();
      page.on('console', (message) => message.type() === 'error' && !message.text().includes('429') && console.log(name, message.text()));
      page.on('pageerror', (error) => console.log(name, String(error)));
      await page.goto(mock.base + view.hash);
      await page.waitForLoadState('networkidle');
      await view.act?.(page);
      await page.waitForTimeout(150);
      await page.screenshot({ path: `${folder}/${name}-${screen}-${theme}.png` });
      await view.after?.(page);
      await page.close();
    }
    await context.close();
  }
}
await browser.close();
mock.close();
