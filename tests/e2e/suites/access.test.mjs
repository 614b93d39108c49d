// Coming in by a code, and letting others in.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startMock } from '../mock/server.mjs';
import { assertAccessible, assertNoSideways, shut, withPage } from '../support/page.mjs';

let mock;
before(async () => {
  mock = await startMock({ furnished: true, delay_ms: 2 });
});
after(async () => {
  await shut();
  mock.close();
});

const stranger = { signed_in: false, scope: 'public', private: false, claimable: true, https_port: 8443, authority: { sha256: '00', words: 'babab lusob' } };

test('a scanned code leaves the address, both screens show digits, and the page opens', () =>
  withPage(mock.base, { screen: 'phone' }, async (page) => {
    const owner = mock.control.session;
    mock.control.session = stranger;
    mock.control.allowed = false;
    await page.goto(`${mock.base}#c=ABCD1234`);
    await page.reload();
    await page.waitForSelector('.door .code');
    assert.equal(await page.locator('.door .code').inputValue(), 'ABCD1234');
    assert.ok(!page.url().includes('ABCD'), page.url());
    await assertAccessible(page);
    await assertNoSideways(page);
    await page.click('.door button');
    await page.waitForSelector('.door .digits >> text=481 294');
    mock.control.session = owner;
    mock.control.allowed = true;
    await page.waitForSelector('#composer');
  }));

test('the owner allows the digits that the page shows', () =>
  withPage(mock.base, {}, async (page) => {
    await page.goto(`${mock.base}#/devices`);
    await page.click('button >> text=Pair a device');
    await page.waitForSelector('.digits >> text=481 294');
    await page.click('button >> text=Allow');
    await page.waitForSelector('button >> text=Pair a device');
    assert.deepEqual(mock.control.decided, { allow: true, digits: '481 294' });
  }));
