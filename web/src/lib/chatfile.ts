// A conversation as a file: the whole tree as JSON, or the branch on screen as Markdown; written and read. Pure.
import type { ChatDetail, Message, Saved } from './types';

export interface Brought {
  title: string;
  messages: Saved[];
  head: string | null;
}

const QUESTION = '## You';
const THOUGHTS = '> **Thoughts**';
// A line that looks like one of ours gets a backslash, and loses it when it is read.
const OURS = '## (?:You|Answer)|> \\*\\*Thoughts\\*\\*$|!\\[Picture \\d+\\]\\(data:';
const LOOKALIKE = new RegExp(`^(\\\\*)(?=${OURS})`, 'gm');
const MARKED = new RegExp(`^\\\\(\\\\*)(?=${OURS})`, 'gm');
const PICTURE = /^!\[Picture \d+\]\((data:image\/[^)]+)\)$/;
const LINE = /^## (?:You|Answer(?: · (.*))?)$/;

/** `name` says what a model is called. */
export function toMarkdown(title: string, path: Message[], name: (model: string | null) => string): string {
  const parts = path.map((message) => {
    const model = name(message.model);
    const heading = message.role === 'user' ? QUESTION : `## Answer${model === '' ? '' : ` · ${model}`}`;
    const shown = (message.shown ?? []).map((address, at) => `![Picture ${at + 1}](${address})`);
    const thoughts = message.reasoning ? [[THOUGHTS, ...message.reasoning.split('\n')].map((line, at) => (at === 0 ? line : `> ${line}`)).join('\n')] : [];
    return [heading, ...shown, ...thoughts, message.content.replace(LOOKALIKE, '\\$1')].join('\n\n');
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

/** What stands below a heading: pictures, thoughts, and the words. */
function partsOf(lines: string[]): Pick<Saved, 'content' | 'reasoning' | 'shown'> {
  const rest = [...lines];
  const blank = () => {
    while (rest[0]?.trim() === '') rest.shift();
  };
  const shown: string[] = [];
  blank();
  for (let found = PICTURE.exec(rest[0] ?? ''); found?.[1]; found = PICTURE.exec(rest[0] ?? '')) {
    shown.push(found[1]);
    rest.shift();
    blank();
  }
  let reasoning: string | null = null;
  if (rest[0] === THOUGHTS) {
    const end = rest.findIndex((line) => !line.startsWith('>'));
    const thoughts = rest.splice(0, end < 0 ? rest.length : end).slice(1);
    reasoning = thoughts.map((line) => line.replace(/^> ?/, '')).join('\n');
  }
  return { content: rest.join('\n').trim().replace(MARKED, '$1'), reasoning, shown };
}

function fromMarkdown(text: string): Brought | null {
  const title = /^# (.+)$/m.exec(text)?.[1];
  if (title === undefined) return null;
  const messages: Saved[] = [];
  let body: string[] = [];
  const close = () => {
    const last = messages.at(-1);
    if (last) Object.assign(last, partsOf(body));
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
    messages.push({ id: String(messages.length + 1), parent_id: messages.at(-1)?.id ?? null, role, content: '', model: heading[1] ?? null, created_at: 0, finish_reason: 'stop', reasoning: null, stats: null, citations: [], shown: [] });
  }
  close();
  return messages.length === 0 ? null : { title, messages, head: messages.at(-1)?.id ?? null };
}
