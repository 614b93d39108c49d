// The only file that speaks to the appliance. Every address is relative to the page, so a prefix works.
import { settings } from './settings.svelte';
import { EventReader, type ServerEvent } from './sse';
import type { Chat, ChatDetail, Check, Citation, Collection, Doc, DocText, Download, ErrorBody, Explained, Found, Model, ModelOptions, Numbers, Saved, Starter, Status, Timings, TurnRequest, Update, Variants } from './types';

const ROOT = new URL('../onebit/', new URL('.', location.href));

/** A refusal by the appliance, or (with status 0) no answer at all. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retry_after_s: number | null = null,
  ) {
    super(message);
  }
}

export async function send(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method,
      cache: 'no-store',
      ...init,
      headers: { ...(body === undefined || body instanceof FormData ? {} : { 'content-type': 'application/json' }), ...init.headers },
      body: body === undefined || body instanceof FormData ? body : JSON.stringify(body),
    });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new ApiError(0, 'unreachable', cause instanceof Error ? cause.message : String(cause));
  }
  if (response.ok) return response;
  // The page shows the way in again when the appliance no longer knows this browser.
  if (response.status === 401) dispatchEvent(new Event('signed-out'));
  const error = await errorOf(response);
  const wait = Number(response.headers.get('retry-after'));
  throw new ApiError(response.status, error.code ?? error.type ?? '', error.message, wait > 0 ? wait : null);
}

async function errorOf(response: Response): Promise<ErrorBody> {
  const text = await response.text();
  try {
    const body = JSON.parse(text) as { error?: ErrorBody; detail?: string; code?: string };
    if (body.error?.message) return body.error;
    if (typeof body.detail === 'string') return { message: body.detail, code: body.code ?? null };
  } catch {
    // Not JSON: a proxy answered; its words are shown as they are.
  }
  return { message: text.slice(0, 200) || response.statusText };
}

export const json = async <T>(method: string, path: string, body?: unknown): Promise<T> => (await send(method, path, body)).json() as Promise<T>;
const id = encodeURIComponent;

export const status = (): Promise<Status> => json('GET', 'status');

export const models = async (): Promise<Model[]> => (await json<{ models: Model[] }>('GET', 'models')).models;
export const loadModel = async (model: string): Promise<void> => void (await send('POST', `models/${id(model)}/load`));
export const pins = async (): Promise<string[]> => (await json<{ pins: string[] }>('GET', 'logical')).pins;
export const pinModel = async (model: string, on: boolean): Promise<void> => void (await send('POST', `models/${id(model)}/${on ? 'pin' : 'unpin'}`));
export const deleteModel = async (model: string): Promise<void> => void (await send('DELETE', `models/${id(model)}`));
export const explain = (model: string): Promise<Explained> => json('GET', `../v1/route/explain?model=${id(model)}`);
export const numbers = (): Promise<Numbers> => json('GET', '../stats');
/** Share of the processor that is busy, in percent; `null` where the machine does not tell. */
export const processorPercent = async (): Promise<number | null> => (await json<{ cpu_percent: number | null }>('GET', '../v1/system-stats')).cpu_percent;
/** Asks where releases come from; nothing else does. */
export const newest = (): Promise<Update> => json('GET', 'update');
export const checkUp = async (): Promise<Check[]> => (await json<{ checks: Check[] }>('GET', 'doctor')).checks;

/** Looks for models on the hub by words. */
export const findModels = async (words: string): Promise<Found[]> => (await json<{ models: Found[] }>('GET', `hub?query=${id(words)}`)).models;
/** Where a message's picture is. */
export const pictureOf = (message: string, number: number): string => new URL(`messages/${id(message)}/pictures/${number}`, ROOT).href;

// Models from the hub, and how each is loaded: Lemonade's paths.
export const variants = (repository: string): Promise<Variants> => json('GET', `../v1/pull/variants?checkpoint=${id(repository)}`);
export const fetchModel = async (name: string): Promise<void> => void (await send('POST', '../v1/pull', { model_name: name, stream: true, subscribe: false }));
export const downloads = (): Promise<Download[]> => json('GET', '../v1/downloads');
export const controlDownload = async (download: string, action: 'pause' | 'cancel' | 'remove'): Promise<void> => void (await send('POST', '../v1/downloads/control', { id: download, action }));
export const starter = (): Promise<Starter> => json('GET', 'starter');
export const decideStarter = (action: 'fetch' | 'dismiss'): Promise<Starter> => json('POST', 'starter', { action });
export const modelOptions = (model: string): Promise<ModelOptions> => json('GET', `../v1/models/${id(model)}/options`);
export const setModelOptions = async (model: string, options: Record<string, unknown>): Promise<void> => void (await send('POST', `../v1/models/${id(model)}/options`, options));

/** Goes on with a text and tells how fast: the llama-server dialect reports its times. */
export const timed = async (model: string, prompt: string, tokens: number, signal: AbortSignal): Promise<Timings> =>
  ((await (await send('POST', '../completion', { model, prompt, n_predict: tokens, temperature: 0, ignore_eos: true }, { signal })).json()) as { timings: Timings }).timings;

/** Where the log is followed, over a WebSocket. */
export const logAddress = (): string => new URL('../logs/stream', ROOT).href.replace(/^http/, 'ws');

export const unloadModel = async (model: string): Promise<void> => void (await send('POST', `models/${id(model)}/unload`));

export interface ChatPage {
  query?: string;
  before?: number;
  limit?: number;
}

export async function chats(page: ChatPage = {}): Promise<Chat[]> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(page)) if (value !== undefined && value !== '') query.set(name, String(value));
  const text = query.toString();
  return (await json<{ chats: Chat[] }>('GET', text ? `chats?${text}` : 'chats')).chats;
}

/** Takes a chat bare or wrapped in `{chat}`. */
const chatOf = (body: Chat | { chat: Chat }): Chat => ('chat' in body ? body.chat : body);

export const createChat = async (model: string): Promise<Chat> => chatOf(await json('POST', 'chats', { model }));
/** A chat; with `last`, only so many messages of the branch that is shown. */
export const chat = (chat: string, last?: number): Promise<ChatDetail> => json('GET', `chats/${id(chat)}${last === undefined ? '' : `?last=${last}`}`);
/** A chat with all that belongs to it, its pictures too. */
export const wholeChat = (chat: string): Promise<ChatDetail> => json('GET', `chats/${id(chat)}?pictures=true`);
export const changeChat = async (chat: string, change: { title?: string; head?: string; pinned?: boolean; collections?: string[] }): Promise<void> =>
  void (await send('PATCH', `chats/${id(chat)}`, change));
/** Brings in a chat with all its versions. */
export const importChat = async (title: string, messages: Saved[], head: string | null): Promise<Chat> => chatOf(await json('POST', 'chats/import', { title, messages, head }));
export const deleteChat = async (chat: string): Promise<void> => void (await send('DELETE', `chats/${id(chat)}`));

// The library has GAIA's paths, beside ours.
const DOCUMENTS = '../api/documents';

export const documents = async (): Promise<Doc[]> => (await json<{ documents: Doc[] }>('GET', DOCUMENTS)).documents;
export const documentText = (document: string, start: number, end: number): Promise<DocText> => json('GET', `${DOCUMENTS}/${id(document)}/content?start=${start}&end=${end}`);
export const deleteDocument = async (document: string): Promise<void> => void (await send('DELETE', `${DOCUMENTS}/${id(document)}`));
export const readDocumentAgain = async (document: string): Promise<void> => void (await send('POST', `${DOCUMENTS}/${id(document)}/retry`));
export const cancelDocument = async (document: string): Promise<void> => void (await send('POST', `${DOCUMENTS}/${id(document)}/cancel`));
export const searchDocuments = async (query: string, collections: string[] = []): Promise<Citation[]> =>
  (await json<{ passages: Citation[] }>('POST', '../v1/search', { query, ...(collections.length > 0 ? { collections } : {}) })).passages;

export const collections = async (): Promise<Collection[]> => (await json<{ collections: Collection[] }>('GET', 'collections')).collections;
export const createCollection = (name: string): Promise<Collection> => json('POST', 'collections', { name });
export const renameCollection = async (collection: string, name: string): Promise<void> => void (await send('PATCH', `collections/${id(collection)}`, { name }));
export const deleteCollection = async (collection: string): Promise<void> => void (await send('DELETE', `collections/${id(collection)}`));
export const placeDocument = async (collection: string, document: string, on: boolean): Promise<void> =>
  void (await send(on ? 'PUT' : 'DELETE', `collections/${id(collection)}/documents/${id(document)}`));

/** Sends a file's bytes as they are; `told` hears the share that is on its way. Only this old interface tells it. */
export function sendDocument(file: File, told: (share: number) => void): Promise<Doc> {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open('POST', new URL(`${DOCUMENTS}/raw?name=${id(file.name)}`, ROOT));
    request.setRequestHeader('content-type', 'application/octet-stream');
    request.upload.onprogress = (event) => event.total > 0 && told(event.loaded / event.total);
    request.onerror = () => failed(new ApiError(0, 'unreachable', file.name));
    request.onload = () => {
      const response = new Response(request.responseText, { status: request.status });
      if (response.ok) void response.json().then((doc) => done(doc as Doc), failed);
      else void errorOf(response).then((error) => failed(new ApiError(request.status, error.code ?? '', error.message)));
    };
    request.send(file);
  });
}

/** What is said in a recording. */
export async function transcribe(sound: Blob): Promise<string> {
  const form = new FormData();
  form.set('file', sound, 'speech.wav');
  return (await json<{ text: string }>('POST', '../v1/audio/transcriptions', form)).text;
}

/** A text as samples of 16 bits, as they are made, and their rate; `on` where it goes on what is being heard. */
export async function speak(text: string, signal: AbortSignal, on = false): Promise<{ body: ReadableStream<Uint8Array>; rate: number }> {
  const ask = { input: text, response_format: 'pcm', ...(settings.voice === '' ? {} : { voice: settings.voice }), ...(on ? { first_piece: 'sentence' } : {}) };
  const response = await send('POST', '../v1/audio/speech', ask, { signal });
  if (!response.body) throw new ApiError(0, 'unreachable', 'the answer had no body');
  return { body: response.body, rate: Number(response.headers.get('x-onebit-sample-rate')) || 24000 };
}

/** The voices that read aloud, the usual one first. */
export const voices = async (): Promise<string[]> => (await json<{ voices: { id: string }[] }>('GET', '../v1/audio/voices')).voices.map((voice) => voice.id);

/** Where somebody is listened to, over a WebSocket: Lemonade's way, where each delta is all that was heard so far. */
export const earAddress = (): string => new URL('../realtime', ROOT).href.replace(/^http/, 'ws');

export const startTurn = (chat: string, turn: TurnRequest, signal: AbortSignal): Promise<AsyncGenerator<ServerEvent>> =>
  streamed('POST', `chats/${id(chat)}/turns`, turn, '', signal);
export const resumeTurn = (turn: string, after: string, signal: AbortSignal): Promise<AsyncGenerator<ServerEvent>> =>
  streamed('GET', `turns/${id(turn)}/events`, undefined, after, signal);
export const stopTurn = async (turn: string): Promise<void> => void (await send('POST', `turns/${id(turn)}/stop`));

export async function streamed(method: string, path: string, body: unknown, after: string, signal: AbortSignal): Promise<AsyncGenerator<ServerEvent>> {
  const headers: Record<string, string> = { accept: 'text/event-stream' };
  if (after !== '') headers['last-event-id'] = after;
  const response = await send(method, path, body, { headers, signal });
  if (!response.body) throw new ApiError(0, 'unreachable', 'the answer had no body');
  return events(response.body);
}

async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const lines = new EventReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* lines.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
