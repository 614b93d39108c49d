// What this browser remembers for its person. Drafts and the choice of model are here too; chats are on the server.

export type Theme = 'system' | 'light' | 'dark';
export type Language = 'auto' | string;

export interface Settings {
  theme: Theme;
  language: Language;
  /** The model that the next turn uses. */
  model: string;
  sidebar: boolean;
  welcomed: boolean;
  enterSends: boolean;
  temperature: number | null;
  maxTokens: number | null;
  /** Who reads aloud; empty for the usual one. */
  voice: string;
  /** When the newest other device came in that this browser has told of. */
  newestDevice: number;
}

const DEFAULTS: Settings = { theme: 'system', language: 'auto', model: '', sidebar: true, welcomed: false, enterSends: true, temperature: null, maxTokens: null, voice: '', newestDevice: 0 };
const KEY = 'onebit.settings';
const DRAFTS = 'onebit.drafts';
// Drafts of chats that were never sent; older ones go when there are more.
const DRAFTS_MAX = 50;

function read<T>(key: string, fallback: T): T {
  try {
    return { ...fallback, ...(JSON.parse(localStorage.getItem(key) ?? '{}') as Partial<T>) };
  } catch {
    return fallback;
  }
}

function write(key: string, value: unknown): void {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Blocked or full storage costs the memory of this browser, not the conversation.
  }
}

export const settings: Settings = $state(read(KEY, DEFAULTS));

export function change(next: Partial<Settings>): void {
  Object.assign(settings, next);
  write(KEY, $state.snapshot(settings));
  applyTheme();
}

export function applyTheme(): void {
  const root = document.documentElement;
  if (settings.theme === 'system') delete root.dataset.theme;
  else root.dataset.theme = settings.theme;
}

const drafts = read<Record<string, string>>(DRAFTS, {});

export const draft = (chat: string): string => drafts[chat] ?? '';

export function keepDraft(chat: string, text: string): void {
  delete drafts[chat];
  if (text !== '') drafts[chat] = text;
  for (const old of Object.keys(drafts).slice(0, -DRAFTS_MAX)) delete drafts[old];
  write(DRAFTS, drafts);
}
