// Hash routes: the server sends one page whatever the address, and a reload stays where it was.

export type Route =
  | { view: 'chat'; chat: string | null }
  | { view: 'documents' }
  | { view: 'agents' }
  | { view: 'models' }
  | { view: 'system' }
  | { view: 'settings' }
  | { view: 'devices' }
  | { view: 'welcome' };

export function parseRoute(hash: string): Route {
  const [view, id] = hash.replace(/^#\/?/, '').split('/');
  if (view === 'documents' || view === 'agents' || view === 'models' || view === 'system' || view === 'settings' || view === 'devices' || view === 'welcome') return { view };
  return { view: 'chat', chat: view === 'chat' && id ? decodeURIComponent(id) : null };
}

let current: Route = $state(parseRoute(location.hash));
addEventListener('hashchange', () => (current = parseRoute(location.hash)));

export const route = (): Route => current;

export const href = (to: Route): string => (to.view === 'chat' ? (to.chat === null ? '#/' : `#/chat/${encodeURIComponent(to.chat)}`) : `#/${to.view}`);

/** Goes to a place; `replace` leaves no step in the history. */
export function go(to: Route, replace = false): void {
  if (replace) history.replaceState(null, '', href(to));
  else history.pushState(null, '', href(to));
  current = to;
}
