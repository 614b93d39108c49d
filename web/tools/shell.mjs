// Writes the names of the built files into the service worker, so that the shell is whole after the first visit. Pictures
// that only an installation needs, and colours of rare languages, come when they are asked for.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const dist = new URL('../dist/', import.meta.url).pathname;
const LEFT_OUT = /^(common|systems|others)-/;
const files = ['./', './theme.js', './icon.svg', './manifest.webmanifest', ...readdirSync(`${dist}assets`).filter((name) => /\.(js|css)$/.test(name) && !LEFT_OUT.test(name)).map((name) => `./assets/${name}`)];

const path = `${dist}worker.js`;
const worker = readFileSync(path, 'utf8');
const mark = "const FILES = ['./'];";
if (!worker.includes(mark)) throw new Error(`public/worker.js has no line ${mark}`);
writeFileSync(path, worker.replace(mark, `const FILES = ${JSON.stringify(files)};`));
