// The page against a running appliance with a real model: ONEBIT_URL=http://127.0.0.1:8000 node --test real/
// Checks what no script can know: that the routes, the stream and the model work together.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { answered, ask, assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

const root = process.env.ONEBIT_URL;
let base;
before(async () => {
  assert.ok(root, 'ONEBIT_URL must be the address of a running appliance, such as http://127.0.0.1:8000');
  base = new URL('/app/', root).href;
});
after(shut);

/** A small model on a busy machine needs its time. */
const SLOW = { timeout: 120_000 };
const finished = async (page) => {
  await page.waitForSelector('.answer:last-of-type[aria-busy=false] footer .icon', SLOW);
  return answered(page);
};

test('the root leads a browser to the page, and tells a client who answers', async () => {
  const response = await fetch(root, { redirect: 'manual', headers: { accept: 'text/html' } });
  assert.ok([301, 302, 303, 307, 308].includes(response.status), `status ${response.status}`);
  assert.match(response.headers.get('location') ?? '', /\/app\/?$/);
  assert.equal(await (await fetch(root)).text(), 'Ollama is running');
});

test('the content policy is strict', async () => {
  const policy = (await fetch(base)).headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
});

test('opens, streams, answers again, edits, comes back after a reload', () =>
  withPage(base, {}, async (page) => {
    await page.waitForSelector('.pick .name:not(:text("No model"))');
    await ask(page, 'Say hello in one short sentence.');
    await page.waitForSelector('.answer[aria-busy=true]');
    assert.notEqual((await finished(page)).trim(), '');
    assert.match(await page.locator('.answer .reading').last().innerText(), /tok\/s/);

    await page.click('.answer button[aria-label="Answer again"]');
    await page.waitForSelector('.answer .branches >> text=2/2', SLOW);
    await finished(page);

    await page.hover('.question');
    await page.click('.question button[aria-label=Edit]');
    await page.fill('.edit textarea', 'Name one colour.');
    await page.press('.edit textarea', 'Enter');
    await page.waitForSelector('.question .branches >> text=2/2', SLOW);
    const last = await finished(page);

    await page.reload();
    await page.waitForSelector('.question .branches >> text=2/2');
    assert.equal(await page.locator('.question .text').innerText(), 'Name one colour.');
    assert.equal(await answered(page), last);
    await page.waitForSelector('.list a[aria-current=page]');
  }));

test('stops, and a reload takes a running answer up again', () =>
  withPage(base, {}, async (page) => {
    await ask(page, 'Write a very long story about a river, with many chapters.');
    await page.waitForSelector('.answer[aria-busy=true] .prose .block', SLOW);
    await page.reload();
    await page.waitForSelector('.answer .prose .block', SLOW);
    if ((await page.locator('.answer').getAttribute('aria-busy')) === 'true') {
      await page.click('button.stop');
      await finished(page);
    }
    assert.equal(await page.locator('.question').count(), 1);
    assert.equal(await page.locator('.answer').count(), 1);
  }));

test('is clean on a phone in every view', () =>
  withPage(base, { screen: 'phone' }, async (page) => {
    for (const view of ['#/', '#/documents', '#/models', '#/system', '#/settings', '#/welcome']) {
      await page.goto(base + view);
      await page.waitForLoadState('networkidle');
      await assertNoSideways(page);
      await assertAccessible(page);
    }
  }));

test('chats can be renamed, found and deleted', () =>
  withPage(base, {}, async (page) => {
    const name = `suite ${Date.now()}`;
    await ask(page, `Remember the word ${name}.`);
    await finished(page);
    await page.click('header button[aria-label="What to do with this chat"]');
    await page.click('[role=menuitem]:has-text("Rename")');
    await page.fill('dialog input', name);
    await page.press('dialog input', 'Enter');
    await page.fill('#search', name);
    await page.waitForSelector(`.list a[title="${name}"]`);
    await page.keyboard.press('Control+Shift+D');
    await page.click('dialog button.danger');
    await page.waitForSelector('.list >> text=Nothing found');
  }));

test('a document is dropped, read, cited, and its passage opens', () =>
  withPage(base, {}, async (page) => {
    await page.goto(`${base}#/documents`);
    const name = `harbour-${Date.now()}.md`;
    const text = `# Harbour guide ${name}\n\nFresh bread is sold by the baker Anselm Rook behind the chandlery.\n\n# Tides\n\nHigh water comes about noon.\n`;
    await page.setInputFiles('.drop input', { name, mimeType: 'text/markdown', buffer: Buffer.from(text) });
    const row = page.locator(`li:has-text("${name}")`);
    await row.locator('text=Can be found and cited').waitFor(SLOW);
    await row.locator('button:has-text("Ask about it")').click();
    await page.waitForSelector(`.shelf >> text=${name}`);
    await ask(page, 'Who sells bread?');
    await finished(page);
    await page.click('.sources button >> nth=0');
    assert.match(await page.locator('.passage mark').innerText(), /Anselm Rook|High water/);
    await page.reload();
    await page.waitForSelector('.sources button');
  }));

/** A PDF with one line on each page. */
function pdf(lines) {
  const page = (at) => `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >> /Contents ${at + 1} 0 R >>`;
  const text = (line) => `BT /F 18 Tf 60 700 Td (${line}) Tj ET`;
  const kids = lines.map((_, i) => `${4 + 2 * i} 0 R`).join(' ');
  const objects = ['<< /Type /Catalog /Pages 2 0 R >>', `<< /Type /Pages /Count ${lines.length} /Kids [${kids}] >>`, '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>'];
  lines.forEach((line, i) => objects.push(page(4 + 2 * i), `<< /Length ${text(line).length} >>\nstream\n${text(line)}\nendstream`));
  let file = '%PDF-1.4\n';
  const places = objects.map((object, i) => {
    const at = file.length;
    file += `${i + 1} 0 obj\n${object}\nendobj\n`;
    return at;
  });
  const table = places.map((at) => `${String(at).padStart(10, '0')} 00000 n \n`).join('');
  return Buffer.from(`${file}xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${file.length}\n%%EOF\n`);
}

test('a citation of a PDF opens the passage, marked, on its page', () =>
  withPage(base, {}, async (page) => {
    await page.goto(`${base}#/documents`);
    const name = `island-${Date.now()}.pdf`;
    const lines = ['The island has a school and two shops.', 'The ferry to the mainland leaves at a quarter past nine.', 'Dogs are kept on a lead in the dunes.'];
    await page.setInputFiles('.drop input', { name, mimeType: 'application/pdf', buffer: pdf(lines) });
    const row = page.locator(`li:has-text("${name}")`);
    await row.locator('text=Can be found and cited').waitFor(SLOW);
    await row.locator('button:has-text("Ask about it")').click();
    await page.waitForSelector(`.shelf >> text=${name}`);
    await ask(page, 'When does the ferry leave?');
    await finished(page);
    await page.click('.sources button >> nth=0');
    assert.equal((await page.locator('.passage mark').innerText()).trim(), lines[1]);
    assert.equal(await page.locator('.passage .page-number').innerText(), 'p. 2');
    assert.ok(await page.locator('.passage mark').isVisible());
  }));

test('the machine tells what it does, and what it lacks', () =>
  withPage(base, {}, async (page) => {
    await ask(page, 'Say one word.');
    await finished(page);
    await page.click('.answer .model');
    await page.waitForSelector('dialog tbody tr');
    await page.keyboard.press('Escape');
    await page.goto(`${base}#/system`);
    await page.waitForSelector('.lanes li >> text=Tokens written');
    await page.waitForSelector('.box p');
    await page.click('button:has-text("Look at the machine")');
    await page.waitForSelector('text=/things were looked at|Wanted/');
    await assertAccessible(page);
  }));

test('a model is measured, pinned and set up', () =>
  withPage(`${base}#/models`, {}, async (page) => {
    const menu = async (verb) => {
      await page.click('.page button[aria-label^="More for"] >> nth=0');
      await page.click(`[role=menuitem]:has-text("${verb}")`);
    };
    await menu('Measure');
    await page.waitForSelector('dialog figure >> text=tok/s', SLOW);
    await page.keyboard.press('Escape');
    await menu('Keep in memory');
    await page.waitForSelector('text=kept in memory');
    await menu('Let it go');
    await page.waitForSelector('text=kept in memory', { state: 'detached' });
    await menu('Settings');
    await page.fill('dialog input', '1024');
    await page.click('dialog button[type=submit]');
    await page.waitForSelector('.notes >> text=Saved');
  }));

test('a conversation of 10,000 messages comes in and opens', async () => {
  const messages = Array.from({ length: 10_000 }, (_, n) => ({ id: `m${n}`, parent_id: n === 0 ? null : `m${n - 1}`, role: n % 2 === 0 ? 'user' : 'assistant', content: `Message ${n} with **bold** and \`code\`.`, created_at: n + 1 }));
  const post = (path, body) => fetch(new URL(path, root), { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const made = await post('/onebit/chats/import', { title: 'endless', messages, head: 'm9999' });
  assert.equal(made.status, 201, await made.clone().text());
  const { id } = await made.json();
  await withPage(base, {}, async (page) => {
    await page.waitForSelector('.list a[title=endless]');
    const took = await page.evaluate(async (id) => {
      const picture = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
      const began = performance.now();
      location.hash = `#/chat/${id}`;
      while (!document.querySelector('.answer .prose')) await picture();
      await picture();
      return performance.now() - began;
    }, id);
    console.log(`# 10,000 messages from the appliance: first picture after ${took.toFixed(0)} ms`);
    assert.ok((await page.locator('.answer .prose').last().innerText()).includes('Message 9999'));
  });
  assert.equal((await fetch(new URL(`/onebit/chats/${id}`, root), { method: 'DELETE' })).status, 200);
});
