// One conversation and its running turn. Many may generate at once, each in its own object.
import { SvelteMap } from 'svelte/reactivity';
import * as api from './api';
import { chats } from './chats.svelte';
import { models } from './models.svelte';
import { settings } from './settings.svelte';
import type { ServerEvent } from './sse';
import { children, newestLeaf, path, type Children, type Node } from './tree';
import { resumed, running, sent, step, type Turn } from './turn';
import type { Chat, Message, TurnRequest } from './types';

// A browser opens six connections to one server over plain http; two stay free for everything else.
const STREAMS_MAX = 4;
// A lost stream is taken up again this often, with a pause that doubles, before the person is asked.
const RESUMES_MAX = 5;
const RESUME_PAUSE_MS = 400;
// Messages that are read first when a conversation is opened: more than a screen shows.
const FIRST = 24;
// Thirty pictures a second read as smooth, and the model may need this processor itself.
const PICTURE_MS = 30;

const open = new SvelteMap<string, Conversation>();
const attached: Conversation[] = [];

export class Conversation {
  chat: Chat | null = $state(null);
  messages: Map<string, Message> = $state.raw(new Map());
  head: string | null = $state(null);
  turn: Turn | null = $state.raw(null);
  known = $state(false);
  /** Documents and collections that it is answered from. */
  shelf: string[] = $state([]);
  error: unknown = $state(null);
  /** Pictures of the question that is on its way. */
  sending: string[] = $state.raw([]);
  #request: TurnRequest | null = null;
  #abort: AbortController | null = null;
  #unseen: ServerEvent[] = [];
  #frame = 0;
  #drawn = 0;
  /** Grows with every turn, so that a slow answer about the past does not replace what happened since. */
  #age = 0;

  constructor(readonly id: string | null) {}

  // The tree is walked when it changes, not with every piece of a running answer.
  readonly #below: Children = $derived(children(this.messages.values()));
  readonly #written: string | null = $derived(this.turn?.answer_id ?? null);
  /** What is on screen, without the answer that runs. */
  readonly nodes: Node[] = $derived.by(() => {
    const all = path(this.messages, this.head, this.#below);
    return all.at(-1)?.message.id === this.#written ? all.slice(0, -1) : all;
  });
  readonly running: boolean = $derived(running(this.turn));

  /** Reads the conversation: what a screen shows first, where it is opened, and then all of it. */
  async load(): Promise<void> {
    if (this.id === null) return;
    try {
      if (!this.known && (await this.#read(FIRST))) return;
      await this.#read();
    } catch (error) {
      this.error = error;
    }
  }

  /** Reads its last messages, or all; whether nothing is missing then. */
  async #read(last?: number): Promise<boolean> {
    if (this.id === null) return true;
    const age = this.#age;
    const { chat, messages, turns, collections, whole = true } = await api.chat(this.id, last);
    const now = turns?.[0];
    // A part cannot tell where a running answer belongs.
    if (!whole && now) return false;
    this.shelf = collections ?? [];
    this.chat = chat;
    this.error = null;
    this.known = true;
    const read = messages.map((message): [string, Message] => [message.id, message]);
    if (age !== this.#age) {
      // Something was asked meanwhile: the past comes below it.
      this.messages = new Map([...read, ...this.messages]);
      return whole;
    }
    this.turn = null;
    this.messages = new Map(read);
    this.head = chat.head ?? null;
    if (now) this.#resume(now.turn_id, now.assistant_message_id);
    return whole;
  }

  /** Adds a question under `parent` (the leaf on screen by default) and has it answered. */
  ask(content: string, parent: string | null | undefined = undefined, pictures: string[] = []): Promise<void> {
    return this.#start({ ...(pictures.length > 0 ? { pictures } : {}), parent_id: parent === undefined ? (this.nodes.at(-1)?.message.id ?? null) : parent, content, ...this.#how() });
  }

  /** Answers a question again, beside the answers that it has. */
  again(question: string, model?: string): Promise<void> {
    return this.#start({ parent_id: question, ...this.#how(), ...(model ? { model } : {}) });
  }

  /** Answers from these documents from now on. */
  async stand(shelf: string[]): Promise<void> {
    this.shelf = shelf;
    if (this.id !== null) await api.changeChat(this.id, { collections: shelf });
  }

  async stop(): Promise<void> {
    if (this.turn?.turn_id) await api.stopTurn(this.turn.turn_id);
    else this.#abort?.abort();
  }

  /** Shows the branch that goes through `id`. */
  async show(id: string): Promise<void> {
    const head = newestLeaf(this.#below, id);
    this.head = head;
    if (this.id && head) await api.changeChat(this.id, { head });
  }

  /** Asks again what failed: the stored question, or the one that never arrived. */
  async retry(): Promise<void> {
    const turn = this.turn;
    if (!turn || !this.#request || this.running) return;
    const stored = turn.turn_id === null ? null : turn.question?.id || this.#request.parent_id;
    if (stored) await this.again(stored);
    else await this.#start({ ...this.#request, ...this.#how() });
  }

  #how(): { model: string; options?: TurnRequest['options'] } {
    const options = {
      ...(settings.temperature === null ? {} : { temperature: settings.temperature }),
      ...(settings.maxTokens === null ? {} : { max_tokens: settings.maxTokens }),
    };
    return { model: models.current?.id ?? '', ...(Object.keys(options).length > 0 ? { options } : {}) };
  }

  async #start(request: TurnRequest): Promise<void> {
    if (this.running || this.id === null) return;
    const id = this.id;
    this.#request = request;
    this.sending = request.pictures ?? [];
    this.#age += 1;
    this.turn = { ...sent(performance.now()), question: request.content === undefined ? null : placeholder(request) };
    // The question is on screen at once, under the message that it answers to.
    this.head = request.parent_id ?? null;
    await this.#follow((signal) => api.startTurn(id, request, signal));
  }

  #resume(turn_id: string, answer_id: string): void {
    this.#age += 1;
    this.turn = resumed(turn_id, answer_id, performance.now());
    void this.#follow((signal) => api.resumeTurn(turn_id, '', signal));
  }

  /** Reads a turn's stream to its end, taking it up again where the connection broke. */
  async #follow(connect: (signal: AbortSignal) => Promise<AsyncGenerator<ServerEvent>>): Promise<void> {
    makeRoom(this);
    const abort = new AbortController();
    this.#abort = abort;
    try {
      for (let tries = 0; running(this.turn); tries += 1) {
        try {
          for await (const event of await connect(abort.signal)) {
            tries = 0;
            this.#take(event);
          }
        } catch (error) {
          if (abort.signal.aborted) return this.#lose();
          if (!(error instanceof api.ApiError && error.status === 0) && !(error instanceof TypeError)) return this.#fail(error);
          if (!this.turn?.turn_id) return this.#fail(error);
        }
        this.#flush();
        const turn = this.turn?.turn_id;
        if (!running(this.turn) || !turn) break;
        if (tries >= RESUMES_MAX) return this.#fail(new api.ApiError(0, 'unreachable', 'the stream ended early'));
        await new Promise((resume) => setTimeout(resume, RESUME_PAUSE_MS * 2 ** tries));
        connect = (signal) => api.resumeTurn(turn, this.turn?.last_event_id ?? '', signal);
      }
    } finally {
      attached.splice(0, attached.length, ...attached.filter((other) => other !== this));
      this.#settle();
    }
  }

  /** Events are applied together, just before a picture: a fast model sends many between two. */
  #take(event: ServerEvent): void {
    this.#unseen.push(event);
    if (document.hidden) this.#flush();
    else this.#frame ||= requestAnimationFrame((now) => this.#picture(now));
  }

  #picture(now: number): void {
    if (now - this.#drawn < PICTURE_MS) {
      this.#frame = requestAnimationFrame((next) => this.#picture(next));
      return;
    }
    this.#drawn = now;
    this.#flush();
  }

  #flush(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#unseen.length === 0 || !this.turn) return;
    const now = performance.now();
    const before = this.turn;
    this.turn = this.#unseen.reduce((turn, event) => step(turn, event, now), before);
    this.#unseen = [];
    if (this.turn.question && this.turn.turn_id && !before.turn_id) {
      this.#put(this.turn.question);
      this.head = this.turn.question.id;
      chats.refresh();
    }
    if (this.turn.phase === 'done') this.#settle();
  }

  /** Puts a finished answer into the tree. */
  #settle(): void {
    const turn = this.turn;
    if (turn?.phase !== 'done' || !turn.answer) return;
    this.#put(turn.answer);
    this.head = turn.answer.id;
    this.turn = null;
    void chats.refresh();
    void models.refresh();
  }

  #put(message: Message): void {
    this.messages = new Map(this.messages).set(message.id, message);
  }

  #fail(error: unknown): void {
    this.#flush();
    if (!this.turn || !running(this.turn)) return;
    const body = error instanceof Error ? { message: error.message, code: error instanceof api.ApiError ? `${error.code} ${error.status}` : null } : { message: String(error) };
    this.turn = { ...this.turn, phase: 'failed', error: body };
  }

  /** The stream was given up on purpose; the turn goes on at the server. */
  #lose(): void {
    if (this.turn) this.turn = { ...this.turn, phase: 'lost' };
  }

  detach(): void {
    this.#abort?.abort();
    if (this.id) open.delete(this.id);
  }
}

const placeholder = (request: TurnRequest): Message => ({
  id: '',
  reasoning: null,
  citations: [],
  pictures: 0,
  parent_id: request.parent_id ?? null,
  role: 'user',
  content: request.content ?? '',
  model: null,
  created_at: Date.now(),
  finish_reason: null,
  stats: null,
});

function makeRoom(next: Conversation): void {
  if (attached.includes(next)) return;
  while (attached.length >= STREAMS_MAX) attached.shift()?.detach();
  attached.push(next);
}

/** The conversation with this id: the one that is open, or a new one that loads. */
export function conversation(id: string): Conversation {
  let found = open.get(id);
  if (!found) {
    found = new Conversation(id);
    open.set(id, found);
  }
  if (!found.running) void found.load();
  return found;
}

/** Makes a chat on the server and asks its first question. */
export async function begin(content: string, shelf: string[] = [], pictures: string[] = []): Promise<string> {
  const chat = await api.createChat(models.current?.id ?? '');
  chats.put(chat);
  const fresh = new Conversation(chat.id);
  fresh.chat = chat;
  fresh.known = true;
  open.set(chat.id, fresh);
  if (shelf.length > 0) await fresh.stand(shelf);
  void fresh.ask(content, null, pictures);
  return chat.id;
}

/** Whether a chat generates now, as far as this page knows. */
export const generates = (id: string): boolean => open.get(id)?.running ?? false;
