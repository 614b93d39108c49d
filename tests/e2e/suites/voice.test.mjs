// Speech on the page: the microphone's samples go out as WAV, what was heard comes into the message, answers are read aloud.
// The browser plays a beep for a microphone; the appliance's speech routes are answered here.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { startMock } from '../mock/server.mjs';
import { answered, ask, assertAccessible, assertNoSideways, withPage } from '../support/page.mjs';

let mock;
let browser;
const voice = { id: 'kokoro', name: 'kokoro', architecture: 'kokoro', file_bytes: 92_000_000, context_length: 0, quantisation: 'int8', state: 'loaded', memory_bytes: 500_000_000 };
before(async () => {
  mock = await startMock({ delay_ms: 2 });
  // It is loaded, and comes first; nobody is to chat with it.
  mock.store.models.unshift(voice);
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

test('a browser without a microphone is told, and led to where it gets one', () =>
  withPage(mock.base, { browser, allow: [/404/] }, async (page) => {
    await page.evaluate(() => Object.defineProperty(navigator, 'mediaDevices', { value: undefined }));
    await page.click('button[aria-label=Speak]');
    await page.waitForSelector('text=plain http');
    await page.click('.notes a');
    await page.waitForFunction(() => location.hash === '#/devices');
    await page.goto(mock.base);
    await page.evaluate(() => Object.defineProperty(navigator, 'mediaDevices', { value: undefined }));
    await page.click('button[aria-label="Talk hands-free"]');
    await page.waitForSelector('text=plain http');
    assert.equal(await page.locator('.call').count(), 0);
  }));

/** Plays the appliance's ear: hands over what the page sends, and says what it is told to. */
async function ear(page) {
  const heard = { appends: 0, seconds: 0, rate: 0, say: null };
  await page.routeWebSocket('**/realtime', (socket) => {
    heard.say = (type, fields = {}) => socket.send(JSON.stringify({ type, ...fields }));
    socket.onMessage((data) => {
      const event = JSON.parse(data);
      if (event.type === 'session.update') {
        heard.rate = event.session.audio.input.format.rate;
        heard.say('session.updated', { session: event.session });
      }
      if (event.type !== 'input_audio_buffer.append') return;
      heard.appends += 1;
      heard.seconds += Buffer.from(event.audio, 'base64').length / 2 / heard.rate;
    });
  });
  heard.turn = (text) => {
    heard.say('input_audio_buffer.speech_stopped');
    heard.say('conversation.item.input_audio_transcription.completed', { transcript: text });
  };
  heard.part = (text) => heard.say('conversation.item.input_audio_transcription.delta', { delta: text });
  return heard;
}

const marks = (page) => page.evaluate(() => Object.fromEntries(performance.getEntriesByType('mark').map((mark) => [mark.name, mark.startTime])));

for (const screen of ['desktop', 'phone']) {
  test(`a call on a ${screen}: spoken question, words as they come, spoken answer, interrupted`, () =>
    withPage(mock.base, { screen, browser, permissions: ['microphone'] }, async (page) => {
      const said = [];
      assert.match(await page.locator('.pick .name').innerText(), /SmolLM2/);
      await page.route('**/v1/audio/voices', (route) => route.fulfill({ json: { voices: [{ id: 'af_heart' }, { id: 'bm_george' }] } }));
      await page.route('**/v1/audio/speech', async (route) => {
        said.push(route.request().postDataJSON());
        await route.fulfill({ body: Buffer.alloc(24000 * 2 * 30), headers: { 'content-type': 'audio/pcm', 'x-onebit-sample-rate': '24000' } });
      });
      const heard = await ear(page);
      await page.click('button[aria-label="Talk hands-free"]');
      await page.waitForSelector('.call >> text=Listening');
      await page.waitForSelector('.call select');
      await assertAccessible(page);
      await assertNoSideways(page);
      await page.waitForFunction(() => Number(document.querySelector('.call meter').value) > 0);
      while (heard.seconds < 0.3) await page.waitForTimeout(20);
      assert.ok(heard.rate >= 8000 && heard.appends > 2, `${heard.appends} pieces at ${heard.rate}`);
      await page.selectOption('.call select', 'bm_george');

      heard.say('input_audio_buffer.speech_started');
      await page.waitForSelector('.call >> text=Hearing you');
      heard.part('Tell me');
      await page.waitForSelector('.call .words >> text=Tell me');
      heard.part('Tell me about heat');
      await page.waitForSelector('.call .words >> text=Tell me about heat');
      heard.turn('Tell me about heat pumps.');
      await page.waitForSelector('.question >> text=Tell me about heat pumps.');
      await page.waitForSelector('.call >> text=Speaking');
      // The new chat has its address, and the call goes on in it.
      assert.match(await page.evaluate(() => location.hash), /^#\/chat\//);
      assert.equal(said[0].voice, 'bm_george');
      assert.ok(said[0].input.split(' ').length <= 8, said[0].input);

      // Who begins to speak stops the answer, sound and text, at once.
      heard.say('input_audio_buffer.speech_started');
      await page.waitForSelector('.call >> text=Hearing you');
      const { 'call:begun': begun, 'call:silent': silent } = await marks(page);
      assert.ok(silent - begun < 200, `silent after ${silent - begun} ms`);
      heard.turn('Never mind.');
      await page.waitForSelector('.question >> text=Never mind.');
      await page.waitForSelector('.call >> text=Speaking');

      // Nothing said is nothing asked.
      heard.say('input_audio_buffer.speech_started');
      heard.turn('');
      await page.waitForSelector('.call >> text=Listening');
      assert.equal(await page.locator('.question').count(), 2);
      await page.click('button[aria-label="Hang up"]');
      await page.waitForSelector('.call', { state: 'detached' });
      await page.waitForSelector('button[aria-label="Talk hands-free"]');
    }));
}

test('a call ends with its chat, and tells what is missing', () =>
  withPage(mock.base, { browser, permissions: ['microphone'], allow: [/40[49]/] }, async (page) => {
    const heard = await ear(page);
    await page.click('button[aria-label="Talk hands-free"]');
    await page.waitForSelector('.call >> text=Listening');
    heard.say('error', { error: { code: 'no_speech_model', message: 'run onebit pull whisper' } });
    await page.waitForSelector('text=run onebit pull whisper');
    await page.waitForSelector('.call', { state: 'detached' });
    await page.click('button[aria-label="Talk hands-free"]');
    await page.waitForSelector('.call >> text=Listening');
    await page.goto(`${mock.base}#/settings`);
    await page.waitForSelector('h2 >> text=Speech');
    await page.goto(`${mock.base}#/`);
    await page.waitForSelector('button[aria-label="Talk hands-free"]');
  }));
