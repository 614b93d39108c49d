// One browser page that fails its test on a console error, a content policy violation or an outside request.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

export const SCREENS = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};

let browser;
export const launch = async () => (browser ??= await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // No name but this machine's own address can be found: what goes outside fails.
  args: ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
}));
export const shut = async () => {
  await browser?.close();
  browser = undefined;
};

/** Opens `base` and hands the page to `body` once `ready` is there; what went wrong meanwhile fails the test. `allow` forgives console lines. */
export async function withPage(base, { screen = 'desktop', allow = [], browser: own, ready = '.frame', ...options }, body) {
  const context = await (own ?? (await launch())).newContext({ ...SCREENS[screen], locale: 'en-GB', reducedMotion: 'reduce', serviceWorkers: 'block', ...options });
  const wrong = [];
  const origin = new URL(base).origin;
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && !['data:', 'blob:'].includes(url.protocol)) wrong.push(`outside request: ${request.url()}`);
  });
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && wrong.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => wrong.push(`page: ${error.message}`));
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    // The first visit is a suite of its own.
    if (!localStorage.getItem('onebit.settings')) localStorage.setItem('onebit.settings', JSON.stringify({ welcomed: true }));
  });
  page.setDefaultTimeout(15_000);
  try {
    await page.goto(base);
    await page.waitForSelector(ready);
    await body(page, context);
  } finally {
    await context.close();
  }
  assert.deepEqual(wrong.filter((line) => !allow.some((pattern) => pattern.test(line))), []);
}

/** No finding of axe that is serious or worse. */
export async function assertAccessible(page) {
  // Through the debugger, because the page's own policy refuses a script that is written into it.
  await page.evaluate(await (await import('node:fs/promises')).readFile(AXE, 'utf8'));
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((one) => one.impact === 'serious' || one.impact === 'critical');
  assert.deepEqual(serious.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`), []);
}

/** Nothing is wider than the screen. */
export async function assertNoSideways(page) {
  const wide = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide[0] <= wide[1], `the page is ${wide[0]} px wide on a screen of ${wide[1]}`);
}

/** Asks until the answer is yes. */
export async function until(look, what, ms = 120_000) {
  for (const begun = Date.now(); !(await look()); ) assert.ok(Date.now() - begun < ms, `still not so: ${what}`);
}

export const ask = async (page, text) => {
  await page.fill('#composer', text);
  await page.press('#composer', 'Enter');
};

/** Waits until the last answer is finished and gives its text. */
export async function answered(page) {
  await page.waitForSelector('.answer:last-of-type[aria-busy=false] footer .icon');
  // Its whole text, for what is out of sight is not laid out.
  return page.locator('.answer').last().locator('.prose').last().textContent();
}
