// Draws the PNG icons from icon.svg: node support/icons.mjs. Run it when the icon changes; the results are committed.
import { readFileSync } from 'node:fs';
import { launch, shut } from './page.mjs';

const folder = new URL('../../../web/public/', import.meta.url).pathname;
const svg = readFileSync(`${folder}icon.svg`, 'utf8');
const SIZES = [
  ['icon-180.png', 180, 1, true],
  ['icon-512.png', 512, 1, false],
  // A mask may cut a tenth off each side, so the drawing is smaller and the ground goes to the edge.
  ['icon-maskable-512.png', 512, 0.72, true],
];
for (const [name, size, scale, square] of SIZES) {
  const page = await (await launch()).newPage({ viewport: { width: size, height: size } });
  const inner = Math.round(size * scale);
  const ground = square ? '#10252c' : 'transparent';
  await page.setContent(`<body style="margin:0;display:grid;place-items:center;height:100vh;background:${ground}"><div style="width:${inner}px;height:${inner}px">${svg}</div></body>`);
  await page.screenshot({ path: folder + name, omitBackground: true });
}
await shut();
