// Speech on the page: the microphone's samples go out as WAV, what was heard comes into the message, answers are read aloud.
// The browser plays a beep for a microphone; the appliance's speech routes are answered here.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, assertNoSideways, withPage } from '../support/page.mjs';

let mock;
let browser;
before(async () => {
  mock = await startMock({ delay_ms: 2 });
  const args = ['--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
});
after(async () => {
  await browser.close();
  mock.close();
});

const heard = (page, answer) =>
  page.route('**/v1/audio/transcriptions', async (route) => {
    const body = route.request().postDataBuffer();
    const at = body.indexOf('RIFF');
    answer.sound = body.subarray(at);
    await route.fulfill(answer.status ? { status: answer.status, json: { error: { message: answer.message, code: 'x' } } } : { json: { text: answer.text } });
  });

for (const screen of ['desktop', 'phone']) {
  test(`what is said is put into the message on a ${screen}`, () =>
    withPage(mock.base, { screen, browser, permissions: ['microphone'], allow: [/409/] }, async (page) => {
      const answer = { text: 'What is a heat pump?' };
      await heard(page, answer);
      await page.fill('#composer', 'Tell me:');
      await page.click('button[aria-label=Speak]');
      await page.waitForSelector('button[aria-pressed=true] >> visible=true');
      await page.waitForSelector('text=Listening');
      await assertAccessible(page);
      await assertNoSideways(page);
      await page.waitForTimeout(600);
      await page.click('button[aria-label="Stop and write it down"]');
      await page.waitForFunction(() => document.querySelector('#composer').value !== 'Tell me:');
      assert.equal(await page.inputValue('#composer'), 'Tell me: What is a heat pump?');
      const rate = answer.sound.readUInt32LE(24);
      const seconds = answer.sound.readUInt32LE(40) / 2 / rate;
      assert.ok(rate >= 8000 && seconds > 0.3, `${seconds} s at ${rate}`);
      // Not every zero: the worklet hears the microphone.
      assert.ok(answer.sound.subarray(44).some((byte) => byte !== 0));
      // What the appliance refuses is told in its own words, and the button works again.
      Object.assign(answer, { status: 409, message: 'run onebit pull' });
      await page.click('button[aria-label=Speak]');
      await page.click('button[aria-label="Stop and write it down"]');
      await page.waitForSelector('text=run onebit pull');
      await page.waitForSelector('button[aria-label=Speak]');
    }));
}

test('an answer is read aloud and stopped', () =>
  withPage(mock.base, { browser, allow: [/409/] }, async (page) => {
    let asked;
    const answer = { status: 200 };
    await page.route('**/v1/audio/speech', async (route) => {
      asked = route.request().postDataJSON();
      if (answer.status !== 200) return route.fulfill({ status: answer.status, json: { error: { message: 'no voice' } } });
      await route.fulfill({ body: Buffer.alloc(24000 * 2 * 20), headers: { 'content-type': 'audio/pcm', 'x-onebit-sample-rate': '24000' } });
    });
    await ask(page, 'Say something.');
    await answered(page);
    await page.click('button[aria-label="Read aloud"]');
    await page.waitForSelector('button[aria-label="Stop reading"].live');
    assert.equal(asked.response_format, 'pcm');
    assert.doesNotMatch(asked.input, /[*`#]/);
    await assertAccessible(page);
    await page.click('button[aria-label="Stop reading"]');
    await page.waitForSelector('button[aria-label="Read aloud"]');
    answer.status = 409;
    await page.click('button[aria-label="Read aloud"]');
    await page.waitForSelector('text=no voice');
  }));

test('a browser without a microphone is told', () =>
  withPage(mock.base, { browser }, async (page) => {
    await page.evaluate(() => Object.defineProperty(navigator, 'mediaDevices', { value: undefined }));
    await page.click('button[aria-label=Speak]');
    await page.waitForSelector('text=plain http');
  }));
