// The offline shell: the page's own files, never an answer of the appliance. The build writes the list of files.
const FILES = ['./'];
const KEEP = 'onebit-shell';

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(KEEP).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

/** Files of the build have their content in their names; the page itself is asked for first and kept for when nobody answers. */
async function answer(request) {
  const cache = await caches.open(KEEP);
  const here = new URL('./', self.location);
  const page = request.mode === 'navigate';
  if (!page) {
    const kept = await cache.match(request);
    if (kept) return kept;
  }
  try {
    const fresh = await fetch(request);
    if (fresh.ok) {
      await cache.put(page ? here : request, fresh.clone());
      if (page) await forget(cache);
    }
    return fresh;
  } catch (error) {
    const kept = await cache.match(page ? here : request);
    if (kept) return kept;
    throw error;
  }
}

/** What an older build has left behind goes. */
async function forget(cache) {
  const wanted = new Set(FILES.map((file) => new URL(file, self.location).href));
  for (const request of await cache.keys()) if (!wanted.has(request.url)) await cache.delete(request);
}

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  const shell = new URL('./', self.location);
  if (event.request.method !== 'GET' || url.origin !== shell.origin || !url.pathname.startsWith(shell.pathname)) return;
  event.respondWith(answer(event.request));
});
