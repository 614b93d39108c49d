// The models that the appliance has, and which one answers next.
import * as api from './api';
import { change, settings } from './settings.svelte';
import type { Model } from './types';

// While a model loads its state is asked for this often; otherwise when a person looks.
const LOADING_POLL_MS = 700;

class Models {
  all: Model[] = $state([]);
  /** `null` until the first answer; then whether the last one failed. */
  error: unknown = $state(null);
  known = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The chosen model, else one that is loaded, else the first that can be. */
  get current(): Model | null {
    return this.get(settings.model) ?? this.all.find((model) => model.state === 'loaded') ?? this.all.find((model) => model.state !== 'absent') ?? null;
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

  #mark(id: string, state: Model['state']): void {
    this.all = this.all.map((model) => (model.id === id ? { ...model, state } : model));
  }
}

export const models = new Models();
