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

test('a device gets a tunnel: one code for anywhere, one for home, shown once', () =>
  withPage(mock.base, { screen: 'phone' }, async (page) => {
    await page.goto(`${mock.base}#/devices`);
    await page.click('button >> text=From anywhere');
    await page.waitForSelector('h2 >> text=Scan this with the WireGuard app');
    const file = () => page.locator('a[download]').getAttribute('href').then(decodeURIComponent);
    assert.match(await file(), /Endpoint = 8\.8\.4\.4:51820/);
    await page.click('button >> text=At home');
    assert.match(await file(), /Endpoint = 192\.168\.1\.2:51820/);
    await page.waitForSelector('text=http://10.77.0.1/app');
    await assertAccessible(page);
    await assertNoSideways(page);
    await page.click('button >> text=Done');
    assert.equal(await page.locator('a[download]').count(), 0);
    await page.click('button >> text=Remove tunnel');
    await page.waitForSelector('button >> text=From anywhere');
    assert.deepEqual(mock.control.tunnels, []);
  }));

test('a Headscale that is set: a key for one more device, and a session ended', () =>
  withPage(mock.base, { screen: 'phone' }, async (page) => {
    await page.goto(`${mock.base}#/devices`);
    // Asked when somebody looks, and not before: most have none.
    mock.control.headscale = [{ id: '7', name: 'pixel', user: 'ada', online: true, addresses: ['100.64.0.3'] }];
    await page.click('button >> text=Show its devices');
    await page.waitForSelector('small >> text=ada · 100.64.0.3 · connected');
    await page.fill('input[aria-label="User"]', 'grace');
    await page.click('button >> text=Invite a device');
    await page.waitForSelector('.secret >> text=hskey-once');
    assert.equal(mock.control.invited, 'grace');
    await assertAccessible(page);
    await assertNoSideways(page);
    await page.click('button >> text=Done');
    assert.equal(await page.locator('.secret').count(), 0);
    await page.click('button >> text=End session');
    await page.waitForFunction(() => !document.body.innerText.includes('pixel'));
    mock.control.headscale = undefined;
  }));

test('a device that somebody else let in is told of', () =>
  withPage(mock.base, {}, async (page) => {
    const known = mock.control.session;
    mock.control.session = { ...known, newest_device: { name: 'Laptop', created_at: 1000 } };
    const told = (at) => page.waitForFunction((at) => JSON.parse(localStorage.getItem('onebit.settings') ?? '{}').newestDevice === at, at);
    await page.goto(mock.base);
    await told(1000);
    assert.equal(await page.locator('.notes >> text=Laptop').count(), 0, 'it was there before');
    mock.control.session = { ...known, newest_device: { name: 'Stranger', created_at: 2000 } };
    await page.reload();
    await page.waitForSelector('.notes >> text=A new device is paired: Stranger');
    await told(2000);
    mock.control.session = known;
  }));
