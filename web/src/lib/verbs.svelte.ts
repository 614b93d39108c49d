// What can be done to a conversation, from the list, the bar, the palette and the keyboard alike.
import * as api from './api';
import { fromFile, toMarkdown } from './chatfile';
import { chats } from './chats.svelte';
import { download } from './clipboard';
import { failure } from './failure';
import { t } from './i18n.svelte';
import { models } from './models.svelte';
import { go, route } from './route.svelte';
import { path } from './tree';
import { UNTITLED, type Chat } from './types';
import { note } from './ui.svelte';

/** A chat's name on the screen; one without a name of its own is a new chat, in the person's language. */
export const titleOf = (chat: Chat): string => (chat.title === '' || chat.title === UNTITLED ? t('chat.new') : chat.title);

/** The question that is open: a new name, or whether to delete. */
export const asking: { rename: Chat | null; remove: Chat | null } = $state({ rename: null, remove: null });

export const askRename = (chat: Chat): void => void (asking.rename = chat);
export const askRemove = (chat: Chat): void => void (asking.remove = chat);

async function tell(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { title, advice } = failure(error);
    note(`${title} ${advice}`, true);
    await chats.refresh();
  }
}

export const togglePin = (chat: Chat): Promise<void> => tell(chats.change(chat.id, { pinned: !chat.pinned }));

export async function rename(chat: Chat, title: string): Promise<void> {
  asking.rename = null;
  if (title.trim() !== '' && title !== chat.title) await tell(chats.change(chat.id, { title: title.trim() }));
}

export async function remove(chat: Chat): Promise<void> {
  asking.remove = null;
  const at = route();
  await tell(chats.remove(chat.id));
  if (at.view === 'chat' && at.chat === chat.id) go({ view: 'chat', chat: null }, true);
  note(t('deleted'));
}

const fileName = (title: string): string => title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 60) || 'chat';

/** Saves the branch on screen as Markdown, or the whole tree as JSON. */
export async function save(chat: Chat, format: 'md' | 'json'): Promise<void> {
  await tell(
    (async () => {
      const detail = await api.wholeChat(chat.id);
      if (format === 'json') {
        download(`${fileName(chat.title)}.json`, 'application/json', JSON.stringify(detail, null, 2));
        return;
      }
      const nodes = path(new Map(detail.messages.map((message) => [message.id, message])), detail.chat.head);
      const text = toMarkdown(
        chat.title,
        nodes.map((node) => node.message),
        (model) => models.name(model),
      );
      download(`${fileName(chat.title)}.md`, 'text/markdown', text);
    })(),
  );
}

/** Brings in a conversation that was saved, and opens it. */
export async function bring(file: File): Promise<void> {
  const brought = fromFile(await file.text());
  if (brought === null) {
    note(t('import.bad', { name: file.name }), true);
    return;
  }
  await tell(
    (async () => {
      const chat = await api.importChat(brought.title, brought.messages, brought.head);
      chats.put(chat);
      go({ view: 'chat', chat: chat.id });
      note(t('import.done'));
    })(),
  );
}

/** Asks for a file and brings it in. */
export function askBring(): void {
  const chooser = document.createElement('input');
  chooser.type = 'file';
  chooser.accept = '.json,.md,application/json,text/markdown';
  chooser.onchange = () => chooser.files?.[0] && void bring(chooser.files[0]);
  chooser.click();
}
