// Fails when the page's first load outgrows its budget: what index.html names, and what those files import statically.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { gzipSync } from 'node:zlib';

const BUDGET = { js: 120_000, css: 20_000, all: 700_000 };
const dist = new URL('../dist', import.meta.url).pathname;
const gzip = (path) => gzipSync(readFileSync(join(dist, path)), { level: 9 }).length;

const html = readFileSync(join(dist, 'index.html'), 'utf8');
const first = new Set([...html.matchAll(/(?:src|href)="\.\/([^"]+\.(?:js|css))"/g)].map((match) => match[1]));
for (const path of first) {
  if (!path.endsWith('.js')) continue;
  const text = readFileSync(join(dist, path), 'utf8');
  for (const match of text.matchAll(/(?:import|from)\s*["'](\.[^"']+\.js)["']/g)) first.add(normalize(join(dirname(path), match[1])));
}

const total = { js: 0, css: 0, all: 0 };
for (const path of first) total[path.endsWith('.css') ? 'css' : 'js'] += gzip(path);
for (const name of readdirSync(join(dist, 'assets'))) if (/\.(js|css)$/.test(name)) total.all += gzip(join('assets', name));

let over = false;
for (const [kind, limit] of Object.entries(BUDGET)) {
  const label = kind === 'all' ? 'everything, lazy chunks too' : `first load ${kind}`;
  console.log(`${label}: ${(total[kind] / 1000).toFixed(1)} KB gzip of ${limit / 1000}`);
  over ||= total[kind] > limit;
}
if (over) {
  console.error('over budget: look at what the first load imports (npm run build -- --debug), or load it lazily');
  process.exit(1);
}
