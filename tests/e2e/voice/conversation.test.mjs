// A conversation by voice with real models: ONEBIT_URL is an appliance that hears, speaks and chats, ONEBIT_VOICE a
// recording for the browser's microphone: a question, a pause, and then somebody who interrupts, again and again, so that a
// slow machine's answer is interrupted too. tests/full/speech.rs prepares both and reads the times that are printed at the end.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { chromium } from 'playwright-core';
import { withPage } from '../support/page.mjs';

const { ONEBIT_URL: root, ONEBIT_VOICE: voice } = process.env;
// What ends a turn: the silence that the appliance waits for.
const SILENCE_MS = 500;
const SLOW = { timeout: 240_000 };
const args = ['--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', `--use-file-for-fake-audio-capture=${voice}`];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
after(() => browser.close());

const marks = (page) => page.evaluate(() => performance.getEntriesByType('mark').map(({ name, startTime }) => [name.replace('call:', ''), startTime]));

test('a spoken question is answered aloud, and the answer is interrupted', () =>
  withPage(new URL('/app/', root).href, { browser, permissions: ['microphone'] }, async (page) => {
    // Both models are loaded, as they are in every call but the first.
    await page.waitForSelector('.pick .name:not(:text("No model"))');
    await page.fill('#composer', 'Say hello.');
    await page.press('#composer', 'Enter');
    await page.waitForSelector('.answer:last-of-type[aria-busy=false] footer .icon', SLOW);
    await page.click('button[aria-label="Read aloud"]');
    await page.waitForSelector('button[aria-label="Stop reading"].live', SLOW);
    // A short answer may be over before anybody could stop it.
    await page.waitForSelector('button[aria-label="Read aloud"]', SLOW);

    // What is shown while somebody speaks, whenever it changes.
    await page.evaluate(() => {
      globalThis.shown = [];
      const look = () => {
        const words = document.querySelector('.call .words')?.textContent;
        if (words && words !== globalThis.shown.at(-1)) globalThis.shown.push(words);
      };
      new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await page.click('button[aria-label="Talk hands-free"]');
    await page.waitForSelector('.call >> text=Hearing you', SLOW);
    await page.waitForSelector('.question >> nth=1', SLOW);
    const question = await page.locator('.question .text').nth(1).innerText();
    assert.match(question, /heat pump/i);
    await page.waitForSelector('.call >> text=Speaking', SLOW);
    const answer = await page.locator('.answer').last().locator('.prose').last().innerText();
    assert.ok(answer.trim() !== '');
    // Somebody begins to speak: silence, and the new words become the next question.
    await page.waitForFunction(() => performance.getEntriesByName('call:silent').length > 0, null, SLOW);
    await page.waitForSelector('.question >> nth=2', SLOW);
    const all = await marks(page);
    const shown = await page.evaluate(() => globalThis.shown);
    await page.click('button[aria-label="Hang up"]');
    await page.waitForSelector('.call', { state: 'detached' });

    const first = (name, from = 0) => all.find(([mark, time]) => mark === name && time >= from)?.[1];
    const last = (name, until) => all.filter(([mark, time]) => mark === name && time <= until).at(-1)?.[1];
    const ms = (from, to) => Math.round(to - from);
    // The turn that the first sound answers.
    const sound = first('sound');
    const told = last('ended', sound);
    const ended = told - SILENCE_MS;
    const after = (name) => ms(ended, first(name, told));
    const silent = first('silent');
    const lastLoud = last('loud', silent);
    console.log(`VOICE heard “${question}”, first shown “${shown[0]}” ${ms(last('word', told), told)} ms before its end was told, ${shown.length} times in all`);
    console.log(
      `VOICE from the end of speech: end told ${ms(ended, told)}, written down ${after('heard')}, asked ${after('asked')}, first token ${after('token')}, first sound ${ms(ended, sound)} ms`,
    );
    console.log(`VOICE interrupted: silent ${ms(lastLoud, silent)} ms after the voice began, page ${ms(last('begun', silent), silent)} ms of it`);
    assert.ok(silent - lastLoud < 200, `silent ${silent - lastLoud} ms after the voice began`);
  }));
