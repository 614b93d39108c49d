// A conversation as a file: the whole tree as JSON, or the branch on screen as Markdown; written and read. Pure.
import type { ChatDetail, Message, Saved } from './types';

export interface Brought {
  title: string;
  messages: Saved[];
  head: string | null;
}

const QUESTION = '## You';
// A line of an answer that looks like a heading of ours gets a backslash, and loses it when it is read.
const LOOKALIKE = /^(\\*)(?=## (?:You|Answer))/gm;
const LINE = /^## (?:You|Answer(?: · (.*))?)$/;

/** `name` says what a model is called. */
export function toMarkdown(title: string, path: Message[], name: (model: string | null) => string): string {
  const parts = path.map((message) => {
    const model = name(message.model);
    const heading = message.role === 'user' ? QUESTION : `## Answer${model === '' ? '' : ` · ${model}`}`;
    return `${heading}\n\n${message.content.replace(LOOKALIKE, '\\$1')}`;
  });
  return `# ${title}\n\n${parts.join('\n\n')}\n`;
}

/** Reads what was saved; `null` where it is no conversation. */
export function fromFile(text: string): Brought | null {
  return text.trimStart().startsWith('{') ? fromJson(text) : fromMarkdown(text);
}

function fromJson(text: string): Brought | null {
  let file: Partial<ChatDetail>;
  try {
    file = JSON.parse(text) as Partial<ChatDetail>;
  } catch {
    return null;
  }
  const { chat, messages } = file;
  if (!chat || typeof chat.title !== 'string' || !Array.isArray(messages)) return null;
  const whole = messages.every((one) => typeof one.id === 'string' && typeof one.content === 'string' && /^(user|assistant|system)$/.test(one.role));
  return whole ? { title: chat.title, messages, head: chat.head ?? null } : null;
}

function fromMarkdown(text: string): Brought | null {
  const title = /^# (.+)$/m.exec(text)?.[1];
  if (title === undefined) return null;
  const messages: Saved[] = [];
  let body: string[] = [];
  const close = () => {
    const last = messages.at(-1);
    if (last) last.content = body.join('\n').trim().replace(/^\\(\\*)(?=## (?:You|Answer))/gm, '$1');
    body = [];
  };
  for (const line of text.split(/\r?\n/)) {
    const heading = LINE.exec(line);
    if (!heading) {
      body.push(line);
      continue;
    }
    close();
    const role = line === QUESTION ? 'user' : 'assistant';
    messages.push({ id: String(messages.length + 1), parent_id: messages.at(-1)?.id ?? null, role, content: '', model: heading[1] ?? null, created_at: 0, finish_reason: 'stop' });
  }
  close();
  return messages.length === 0 ? null : { title, messages, head: messages.at(-1)?.id ?? null };
}
