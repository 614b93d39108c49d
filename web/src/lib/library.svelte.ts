// The person's documents: what is there, what is being read, and what a search found.
import * as api from './api';
import type { Collection, Doc } from './types';

// While a document is being read its progress is asked for this often.
const READING_POLL_MS = 600;

export const reading = (doc: Doc): boolean => doc.indexing_status === 'pending' || doc.indexing_status === 'indexing';

class Library {
  all: Doc[] = $state([]);
  collections: Collection[] = $state([]);
  known = $state(false);
  error: unknown = $state(null);
  /** Files on their way, by name, with the share that is sent. */
  sending: { key: number; name: string; share: number }[] = $state([]);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #keys = 0;

  get(id: string): Doc | null {
    return this.all.find((doc) => doc.id === id) ?? null;
  }

  /** What a shelf's entry is called: a document's name, or a collection's. */
  name(id: string): string {
    return this.get(id)?.filename ?? this.collections.find((one) => one.id === id)?.name ?? id;
  }

  async refresh(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      [this.all, this.collections] = await Promise.all([api.documents(), api.collections()]);
      this.error = null;
      this.known = true;
    } catch (error) {
      this.error = error;
    }
    if (this.all.some(reading)) this.#timer = setTimeout(() => void this.refresh(), READING_POLL_MS);
  }

  /** Sends files one after the other; `failed` hears of each that was refused. */
  async send(files: Iterable<File>, failed: (name: string, error: unknown) => void): Promise<Doc[]> {
    const added: Doc[] = [];
    for (const file of [...files]) {
      const key = ++this.#keys;
      this.sending.push({ key, name: file.name, share: 0 });
      try {
        added.push(
          await api.sendDocument(file, (share) => {
            const one = this.sending.find((sending) => sending.key === key);
            if (one) one.share = share;
          }),
        );
      } catch (error) {
        failed(file.name, error);
      } finally {
        this.sending = this.sending.filter((sending) => sending.key !== key);
      }
      await this.refresh();
    }
    return added;
  }

  /** Makes a collection. */
  async collect(name: string): Promise<Collection> {
    const made = await api.createCollection(name);
    await this.refresh();
    return made;
  }

  /** Deletes a collection; its documents stay. */
  async dissolve(id: string): Promise<void> {
    await api.deleteCollection(id);
    await this.refresh();
  }

  /** Puts a document into a collection, or takes it out. */
  async place(collection: string, document: string, inside: boolean): Promise<void> {
    await api.placeDocument(collection, document, inside);
    await this.refresh();
  }

  async remove(id: string): Promise<void> {
    await api.deleteDocument(id);
    this.all = this.all.filter((doc) => doc.id !== id);
  }

  async again(id: string): Promise<void> {
    await api.readDocumentAgain(id);
    await this.refresh();
  }

  async cancel(id: string): Promise<void> {
    await api.cancelDocument(id);
    await this.refresh();
  }
}

export const library = new Library();
