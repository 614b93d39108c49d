// Takes the README's pictures from a running appliance, so that what they show is what a model really said:
// ONEBIT_URL=http://127.0.0.1:8000 ONEBIT_MODEL=id node support/readme.mjs. Use an empty data directory.
import { answered, ask, shut, withPage } from './page.mjs';

const base = new URL('/app/', process.env.ONEBIT_URL).href;
const folder = new URL('../../../docs/images/', import.meta.url).pathname;
const ASKED = [
  'Who wrote Faust?',
  'How do I keep bread fresh?',
  'What is the difference between weather and climate?',
  'What is a good name for a grey cat?',
  'Write a Python function that checks if a number is prime.',
];
const wide = { viewport: { width: 1280, height: 800 } };
const done = async (page) => {
  await page.waitForSelector('.answer:last-of-type[aria-busy=false] footer .icon', { timeout: 180_000 });
  await answered(page);
};
let places = [];

await withPage(base, { ...wide, colorScheme: 'light' }, async (page) => {
  await page.waitForLoadState('networkidle');
  await page.evaluate((model) => localStorage.setItem('onebit.settings', JSON.stringify({ welcomed: true, model, temperature: 0, maxTokens: 320 })), process.env.ONEBIT_MODEL ?? '');
  await page.reload();
  for (const question of ASKED) {
    await page.click('.sidebar .new');
    await ask(page, question);
    await done(page);
    places.push(page.url());
  }
  await page.evaluate(() => document.querySelector('.scroller').scrollTo(0, 0));
  await page.mouse.move(700, 20);
  await page.waitForTimeout(300);
  await page.screenshot({ path: `${folder}chat-light.png` });
});
await withPage(places[2], { ...wide, colorScheme: 'dark' }, async (page) => {
  await page.waitForSelector('.answer .prose');
  await page.waitForTimeout(600);
  await page.evaluate(() => document.querySelector('.scroller').scrollTo(0, 0));
  await page.waitForTimeout(300);
  await page.screenshot({ path: `${folder}chat-dark.png` });
});
await withPage(base, { screen: 'phone', colorScheme: 'dark' }, async (page) => {
  await page.waitForLoadState('networkidle');
  await page.screenshot({ path: `${folder}phone-dark.png` });
});
await shut();
