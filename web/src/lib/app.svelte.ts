// The page as an app of its own: its offline shell, and whether this browser can install it.

/** `ask`: a button may ask now; `menu`: the browser's own menu does it; `plain`: not over plain http; `done`: it runs installed. */
type Can = 'ask' | 'menu' | 'plain' | 'done';

interface InstallEvent extends Event {
  prompt(): Promise<unknown>;
}

class Installed {
  #event: InstallEvent | null = $state.raw(null);
  #done = $state(matchMedia('(display-mode: standalone)').matches);

  get can(): Can {
    if (this.#done) return 'done';
    if (!isSecureContext) return 'plain';
    return this.#event ? 'ask' : 'menu';
  }

  constructor() {
    addEventListener('beforeinstallprompt', (event) => {
      event.preventDefault();
      this.#event = event as InstallEvent;
    });
    addEventListener('appinstalled', () => (this.#done = true));
  }

  async install(): Promise<void> {
    await this.#event?.prompt();
    this.#event = null;
  }
}

export const app = new Installed();

/** Keeps the page's own files, so that it opens while the appliance does not answer. Browsers allow it over TLS and loopback. */
export function keepShell(): void {
  if (!isSecureContext || !('serviceWorker' in navigator)) return;
  // A refusal (private windows, policies) costs the shell only.
  navigator.serviceWorker.register(new URL('worker.js', new URL('.', location.href))).catch(() => undefined);
}
