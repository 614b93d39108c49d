// The list of conversations: pages of the server's list, and the search.
import * as api from './api';
import type { Chat } from './types';

// One page fills the tallest screen; the next is asked for before the end is reached.
const PAGE = 60;
// A person types about six letters a second; the search waits for a pause.
const SEARCH_PAUSE_MS = 160;

class Chats {
  all: Chat[] = $state.raw([]);
  query = $state('');
  known = $state(false);
  more = $state(false);
  error: unknown = $state(null);
  #asked = 0;
  /** The query that the list answers. */
  #shown = '';
  #timer: ReturnType<typeof setTimeout> | undefined;

  async refresh(): Promise<void> {
    const asked = ++this.#asked;
    try {
      const query = this.query.trim();
      const page = await api.chats({ query, limit: PAGE });
      if (asked !== this.#asked) return;
      // What stands below the first page stays; a person may have scrolled far down.
      const oldest = page.findLast((chat) => !chat.pinned);
      const below = page.length < PAGE || !oldest || query !== this.#shown ? [] : this.all.filter((chat) => !chat.pinned && chat.updated_at < oldest.updated_at);
      this.all = [...page, ...below];
      this.more = page.length >= PAGE && (below.length === 0 || this.more);
      this.#shown = query;
      this.error = null;
      this.known = true;
    } catch (error) {
      if (asked === this.#asked) this.error = error;
    }
  }

  async next(): Promise<void> {
    const last = this.all.filter((chat) => !chat.pinned).at(-1);
    if (!this.more || !last) return;
    this.more = false;
    const asked = this.#asked;
    const page = await api.chats({ query: this.query.trim(), limit: PAGE, before: last.updated_at });
    if (asked !== this.#asked) return;
    const have = new Set(this.all.map((chat) => chat.id));
    const fresh = page.filter((chat) => !have.has(chat.id));
    this.all = [...this.all, ...fresh];
    this.more = fresh.length > 0 && page.length >= PAGE;
  }

  search(query: string): void {
    this.query = query;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.refresh(), SEARCH_PAUSE_MS);
  }

  get(id: string): Chat | null {
    return this.all.find((chat) => chat.id === id) ?? null;
  }

  /** Puts a new or changed chat where it belongs, before the server's list says the same. */
  put(chat: Chat): void {
    const rest = this.all.filter((other) => other.id !== chat.id);
    this.all = [chat, ...rest].sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.updated_at - a.updated_at);
  }

  async change(id: string, change: { title?: string; pinned?: boolean }): Promise<void> {
    const chat = this.get(id);
    if (chat) this.put({ ...chat, ...change });
    await api.changeChat(id, change);
  }

  async remove(id: string): Promise<void> {
    await api.deleteChat(id);
    this.all = this.all.filter((chat) => chat.id !== id);
  }
}

export const chats = new Chats();
