// The mock's rows: models, chats and their trees of messages, all in memory.
import { randomBytes } from 'node:crypto';

export const newId = () => randomBytes(12).toString('hex');
const DAY_MS = 86_400_000;

/** Said no to, until a test offers it. */
const starterSet = () => {
  const part = (role, model, state, more) => ({ role, model, repository: `lab/${model}`, licence: 'MIT', good_for: '', state, done_bytes: 0, total_bytes: 0, ...more });
  return { state: 'dismissed', parts: [part('chat', 'gemma3-4b', 'missing'), part('hearing', 'whisper-base', 'blocked', { note: 'needs whisper-server; run `onebit engines build whisper.cpp`' })] };
};

export function makeStore() {
  const models = [
    { id: 'smollm2-135m-instruct', name: 'SmolLM2 135M Instruct', architecture: 'llama', file_bytes: 97_800_000, context_length: 8192, quantisation: 'Q4_1', state: 'loaded', memory_bytes: 151_000_000 },
    { id: 'bitnet-2b-4t', name: 'BitNet b1.58 2B 4T', architecture: 'bitnet', file_bytes: 1_190_000_000, context_length: 4096, quantisation: 'I2_S', state: 'ready' },
    { id: 'qwen3-4b', name: 'Qwen3 4B', architecture: 'qwen3', file_bytes: 2_500_000_000, context_length: 32_768, quantisation: 'Q4_K_M', state: 'failed', error: 'needs 4.1 GB, 2.9 GB are free: unload another model' },
  ];
  return { models, pins: [], options: {}, starter: starterSet(), downloads: new Map(), downloadStep: 0.34, gpu: null, chats: new Map(), messages: new Map(), turns: new Map(), runs: new Map(), documents: new Map(), collections: new Map(), pictures: new Map() };
}

export function addChat(store, { title = '', model = store.models[0].id, pinned = false, at = Date.now() } = {}) {
  const chat = { id: newId(), title, model, pinned, created_at: at, updated_at: at, head: null };
  store.chats.set(chat.id, chat);
  return chat;
}

export function addMessage(store, chat, message) {
  const row = { id: newId(), chat: chat.id, parent_id: null, model: null, created_at: Date.now(), finish_reason: null, stats: null, reasoning: null, citations: [], pictures: 0, ...message };
  store.messages.set(row.id, row);
  return row;
}

/** A chat as a saved file has it: new ids, the same tree. */
export function takeChat(store, { title, messages, head }) {
  const chat = addChat(store, { title });
  const ids = new Map();
  for (const { id, parent_id, shown = [], ...rest } of messages) {
    const row = addMessage(store, chat, { ...rest, parent_id: ids.get(parent_id) ?? null, pictures: shown.length });
    ids.set(id, row.id);
    store.pictures.set(row.id, shown);
  }
  chat.head = ids.get(head) ?? [...ids.values()].at(-1) ?? null;
  return chat;
}

export const messagesOf = (store, chat) => [...store.messages.values()].filter((message) => message.chat === chat.id).map(wire);
/** The last `n` messages of the branch that is shown, and their other versions. */
export function tailOf(store, chat, n) {
  const parents = new Set();
  const line = new Set();
  for (let at = store.messages.get(chat.head); at && line.size < n; at = store.messages.get(at.parent_id)) {
    line.add(at.id);
    parents.add(at.parent_id);
  }
  return messagesOf(store, chat).filter((message) => line.has(message.id) || (message.parent_id !== null && parents.has(message.parent_id)));
}

export const wire = ({ chat: _, ...message }) => message;

export function stats(prompt_tokens, completion_tokens) {
  return { cached_tokens: 0, joules: 31.5, prompt_tokens, completion_tokens, ttft_ms: 38, prefill_tps: 612.4, decode_tps: 94.3, finish_reason: 'stop' };
}

/** A history that looks like someone's. */
export function furnish(store) {
  const titles = ['Heat pumps for a ten-year-old', 'Duplicate files in Python', 'Names for a grey cat', 'Soup from what is left', 'Why is the sky dark at night?', 'Letter to the landlord', 'Regular expressions, gently', 'A week in the Dolomites', 'Sourdough that does not rise', 'Rust lifetimes by example', 'Birthday speech for Ines', 'Meter readings as a table'];
  titles.forEach((title, index) => {
    const at = Date.now() - [0.02, 0.1, 0.9, 1.1, 2, 3.5, 5, 8, 11, 20, 31, 45][index] * DAY_MS;
    const chat = addChat(store, { title, pinned: index === 2, at });
    const question = addMessage(store, chat, { role: 'user', content: title, created_at: at });
    const answer = addMessage(store, chat, { role: 'assistant', parent_id: question.id, content: `About “${title}”.`, model: chat.model, created_at: at + 1, finish_reason: 'stop', stats: stats(24, 310) });
    chat.head = answer.id;
  });
}
