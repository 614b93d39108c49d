// A browser on another machine than the appliance, with its authority among those it trusts:
// ONEBIT_HTTPS, ONEBIT_HTTP and ONEBIT_LINK say where; tests/network.rs prepares all of it and allows the device.
import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { chromium } from 'playwright-core';
import { SCREENS } from '../support/page.mjs';

const { ONEBIT_HTTPS: secure, ONEBIT_HTTP: plain, ONEBIT_LINK: link, ONEBIT_SHOTS: shots } = process.env;
const args = ['--no-sandbox', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];
const launch = (env = process.env) => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args, env });
const browser = await launch();
after(() => browser.close());

const context = () => browser.newContext({ ...SCREENS.phone, locale: 'en-GB' });
const shot = async (page, name) => shots && page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });

/** Opens an address; like the browser's own error page, tries again when the network has changed meanwhile. */
async function visit(page, address, tries = 5) {
  try {
    await page.goto(address);
  } catch (error) {
    if (tries === 1 || !String(error).includes('ERR_NETWORK_CHANGED')) throw error;
    await visit(page, address, tries - 1);
  }
}

test('the page is a secure context with a microphone', async () => {
  const page = await (await context()).newPage();
  await visit(page, `${secure}/app/`);
  assert.equal(await page.evaluate(() => isSecureContext), true);
  const tracks = await page.evaluate(async () => (await navigator.mediaDevices.getUserMedia({ audio: true })).getAudioTracks().length);
  assert.equal(tracks, 1);
  await page.waitForSelector('.door .code');
  await shot(page, 'door-https');
});

test('by plain http there is none, and the page says where there is', async () => {
  const page = await (await context()).newPage();
  await visit(page, `${plain}/app/`);
  assert.deepEqual(await page.evaluate(() => [isSecureContext, navigator.mediaDevices === undefined]), [false, true]);
  await page.waitForSelector(`.door a[href="${secure}/app/"]`);
  await shot(page, 'door-http');
});

test('a browser without our authority refuses it', async () => {
  const stranger = await launch({ ...process.env, HOME: await mkdtemp(join(tmpdir(), 'onebit-browser-')) });
  try {
    await assert.rejects((await stranger.newPage()).goto(`${secure}/app/`), /ERR_CERT_AUTHORITY_INVALID/);
  } finally {
    await stranger.close();
  }
});

test('the scanned link leads in, and out again', async () => {
  const page = await (await context()).newPage();
  await visit(page, link);
  await page.waitForSelector('.door .code');
  assert.ok(!page.url().includes('#'), page.url());
  await page.click('.door button');
  const digits = await page.locator('.door .digits').innerText();
  console.log(`digits ${digits}`);
  await shot(page, 'door-digits');
  await page.waitForSelector('.frame', { timeout: 100_000 });
  assert.equal(new URL(page.url()).pathname, '/app/');
  const session = await page.evaluate(async () => (await fetch('/onebit/session')).json());
  assert.deepEqual([session.signed_in, session.scope, session.private], [true, 'chat', true]);
  assert.equal(await page.evaluate(() => document.cookie), '', 'scripts do not see the cookie');
  await shot(page, 'inside');
});
