// Keeps the page, so that it opens without a network: what was loaded once is answered from the cache, and renewed.
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open('page');
    const fresh = fetch(request).then((response) => {
      if (response.ok) cache.put(request, response.clone());
      return response;
    });
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) fresh.catch(() => {});
    return kept ?? fresh;
  })());
});
