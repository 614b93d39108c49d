// Groups conversations by when they were last used, in the person's own days. Pure.
import type { Key } from './i18n.svelte';
import type { Chat } from './types';

export interface Age {
  label: Key;
  chats: Chat[];
}

const DAY_MS = 86_400_000;

export function ages(all: Chat[], now: number): Age[] {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const label = (chat: Chat): Key => {
    if (chat.pinned) return 'list.pinned';
    if (chat.updated_at >= midnight) return 'list.today';
    if (chat.updated_at >= midnight - DAY_MS) return 'list.yesterday';
    return chat.updated_at >= midnight - 7 * DAY_MS ? 'list.week' : 'list.older';
  };
  const groups: Age[] = (['list.pinned', 'list.today', 'list.yesterday', 'list.week', 'list.older'] as const).map((label) => ({ label, chats: [] }));
  for (const chat of all) groups.find((group) => group.label === label(chat))?.chats.push(chat);
  return groups.filter((group) => group.chats.length > 0);
}
