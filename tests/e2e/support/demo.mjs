// Records the README's short demo from a running appliance, so that it shows what a model really said at its real pace:
// ONEBIT_URL=http://127.0.0.1:8000 ONEBIT_MODEL=id node support/demo.mjs. Use an empty data directory; needs img2webp (Debian: webp).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shut, withPage } from './page.mjs';

const base = new URL('/app/', process.env.ONEBIT_URL).href;
const target = new URL('../../../docs/images/demo.webp', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'demo-'));
const GUIDE = '# Harbour guide\n\n## Tides\n\nHigh water comes at Quillport about noon on the day of a full moon.\n\n## Provisions\n\nFresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays.\n';
// What the last picture is left standing for, and the longest that any other one is.
const END_MS = 2500;
const STILL_MS = 1200;

const frames = [];
await withPage(base, { viewport: { width: 960, height: 640 }, colorScheme: 'dark' }, async (page, context) => {
  await page.evaluate((model) => localStorage.setItem('onebit.settings', JSON.stringify({ welcomed: true, model, sidebar: false, temperature: 0, maxTokens: 140 })), process.env.ONEBIT_MODEL ?? '');
  await page.reload();
  await page.waitForSelector('.pick .name:not(:text("No model"))');
  const session = await context.newCDPSession(page);
  session.on('Page.screencastFrame', ({ data, metadata, sessionId }) => {
    const path = join(folder, `${String(frames.length).padStart(4, '0')}.png`);
    writeFileSync(path, Buffer.from(data, 'base64'));
    frames.push({ path, at: metadata.timestamp * 1000 });
    void session.send('Page.screencastFrameAck', { sessionId });
  });
  await session.send('Page.startScreencast', { format: 'png', everyNthFrame: 2 });
  const type = (text) => page.locator('#composer').pressSequentially(text, { delay: 38 });
  const done = () => page.waitForSelector('.answer:last-of-type[aria-busy=false] footer .icon', { timeout: 120_000 });

  await type('Why is the sky blue?');
  await page.keyboard.press('Enter');
  await done();
  await page.waitForTimeout(900);
  await page.evaluate(() => (location.hash = '#/documents'));
  await page.setInputFiles('.drop input', { name: 'harbour-guide.md', mimeType: 'text/markdown', buffer: Buffer.from(GUIDE) });
  await page.waitForSelector('text=Can be found and cited', { timeout: 60_000 });
  await page.locator('.find input').pressSequentially('where to buy a loaf', { delay: 38 });
  await page.keyboard.press('Enter');
  await page.click('.hit >> nth=0');
  await page.waitForSelector('.passage mark');
  await page.waitForTimeout(1100);
  await page.keyboard.press('Escape');
  await page.evaluate(() => (location.hash = '#/system'));
  await page.waitForFunction(() => /L/.test(document.querySelector('.charts path:not(.ground)')?.getAttribute('d') ?? ''));
  await page.waitForTimeout(3000);
  await session.send('Page.stopScreencast');
});
await shut();

const shown = frames.flatMap(({ path, at }, index) => {
  const ms = Math.round(Math.min(STILL_MS, (frames[index + 1]?.at ?? at + END_MS) - at));
  return ['-d', String(index === frames.length - 1 ? END_MS : Math.max(20, ms)), path];
});
execFileSync('img2webp', ['-loop', '0', '-min_size', '-lossy', '-q', '55', '-m', '4', ...shown, '-o', target], { stdio: 'inherit' });
rmSync(folder, { recursive: true });
console.log(`${frames.length} pictures, ${(statSync(target).size / 1000).toFixed(0)} KB`);
