// The models that the appliance has, and which one answers next.
import * as api from './api';
import { change, settings } from './settings.svelte';
import type { Download, Model } from './types';

// While a model loads its state is asked for this often; otherwise when a person looks.
const LOADING_POLL_MS = 700;
// Models that hear and speak: they are looked after like all others, and nobody chats with them.
const SPEECH = ['whisper', 'kokoro'];

class Models {
  all: Model[] = $state([]);
  /** `null` until the first answer; then whether the last one failed. */
  error: unknown = $state(null);
  known = $state(false);
  /** Those that stay in memory whatever else is asked for. */
  pins: string[] = $state([]);
  coming: Download[] = $state([]);
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Those that answer. */
  get talkers(): Model[] {
    return this.all.filter((model) => !SPEECH.includes(model.architecture));
  }

  /** Whether one of them reads aloud. */
  get speaks(): boolean {
    return this.all.some((model) => model.architecture === 'kokoro' && model.state !== 'absent');
  }

  /** The chosen model, else one that is loaded, else the first that can be. */
  get current(): Model | null {
    const all = this.talkers;
    return all.find((model) => model.id === settings.model) ?? all.find((model) => model.state === 'loaded') ?? all.find((model) => model.state !== 'absent') ?? null;
  }

  get(id: string | null | undefined): Model | null {
    return this.all.find((model) => model.id === id) ?? null;
  }

  name(id: string | null | undefined): string {
    return this.get(id)?.name ?? id ?? '';
  }

  choose(id: string): void {
    change({ model: id });
  }

  async refresh(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      this.all = await api.models();
      this.error = null;
      this.known = true;
    } catch (error) {
      this.error = error;
    }
    if (this.all.some((model) => model.state === 'loading')) this.#timer = setTimeout(() => void this.refresh(), LOADING_POLL_MS);
  }

  async load(id: string): Promise<void> {
    this.#mark(id, 'loading');
    try {
      const loading = api.loadModel(id);
      // The answer may come only when the model is loaded; its state is watched meanwhile.
      this.#timer = setTimeout(() => void this.refresh(), LOADING_POLL_MS);
      await loading;
    } finally {
      await this.refresh();
    }
  }

  async unload(id: string): Promise<void> {
    try {
      await api.unloadModel(id);
    } finally {
      await this.refresh();
    }
  }

  /** What the view of models shows beside the models themselves. */
  async refreshMore(): Promise<void> {
    clearTimeout(this.#watch);
    try {
      [this.pins, this.coming] = await Promise.all([api.pins(), api.downloads()]);
    } catch (error) {
      // Who may only chat has no downloads; the models are shown all the same.
      if (!(error instanceof api.ApiError && error.status === 403)) this.error = error;
    }
    if (this.coming.some((one) => one.status === 'downloading')) {
      this.#watch = setTimeout(() => void this.refreshMore(), LOADING_POLL_MS);
      this.#fetching = true;
    } else if (this.#fetching) {
      this.#fetching = false;
      await this.refresh();
    }
  }

  async pin(id: string, on: boolean): Promise<void> {
    await api.pinModel(id, on);
    await this.refreshMore();
  }

  async remove(id: string): Promise<void> {
    await api.deleteModel(id);
    await this.refresh();
  }

  /** Starts a model's way from the hub, or goes on with it. */
  async fetch(name: string): Promise<void> {
    await api.fetchModel(name);
    await this.refreshMore();
  }

  async control(download: string, action: 'pause' | 'cancel' | 'remove'): Promise<void> {
    await api.controlDownload(download, action);
    await this.refreshMore();
  }

  #watch: ReturnType<typeof setTimeout> | undefined;
  #fetching = false;

  #mark(id: string, state: Model['state']): void {
    this.all = this.all.map((model) => (model.id === id ? { ...model, state } : model));
  }
}

export const models = new Models();
