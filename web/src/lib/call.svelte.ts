// A call: the appliance listens and writes down, each turn becomes a question of the chat, and its answer is read aloud
// while it is written. Whoever begins to speak stops both.
import { untrack } from 'svelte';
import { ApiError, earAddress, speak } from './api';
import { begin, conversation, type Conversation } from './conversation.svelte';
import { failure } from './failure';
import { t } from './i18n.svelte';
import { Loudness } from './loudness';
import { Cutter } from './pieces';
import { go, href, route } from './route.svelte';
import type { Turn } from './turn';
import { note, ui } from './ui.svelte';
import { listen, NoMicrophone, Player, type Microphone } from './voice';

// Sound is sent in pieces of this length.
const SEND_S = 0.04;
// Silence that ends a turn.
const SILENCE_MS = 500;
// The answer becomes softer when the microphone is loud, and loud again when the appliance heard no voice meanwhile.
const SURE_MS = 600;
const LOUD_BLOCKS = 4;

export type Phase = 'starting' | 'listening' | 'hearing' | 'writing' | 'thinking' | 'speaking';

interface Heard {
  type: string;
  delta?: string;
  transcript?: string;
  error?: { code: string | null; message: string };
}

/** The call that goes on. One at a time: there is one microphone. */
class Call {
  phase: Phase = $state('starting');
  /** What was said so far of the present turn. */
  partial = $state('');
  /** How loud the microphone is, 0 to 1. */
  level = $state(0);
  /** The chat that it belongs to; `null` before the first word. */
  chat: string | null = $state(null);
  #shelf: string[] = [];
  #socket: WebSocket | null = null;
  #microphone: Microphone | null = null;
  #player: Player | null = null;
  #unsent: Float32Array[] = [];
  #loudness = new Loudness();
  #loud = 0;
  #softened = 0;
  #talk: Conversation | null = $state.raw(null);
  #unfollow: (() => void) | null = null;
  /** A question that waits for the last answer to stop. */
  #question: string = $state('');
  /** What is read aloud: how much of the answer was cut, and what waits. */
  #answering = false;
  #cutter = new Cutter();
  #read = 0;
  #pieces: string[] = [];
  #written = false;
  #mouth: AbortController | null = null;

  /** Begins. Throws where there is no microphone. */
  async start(chat: string | null, shelf: string[]): Promise<void> {
    if (ui.call) return;
    Object.assign(this, { phase: 'starting', partial: '', level: 0, chat });
    this.#shelf = shelf;
    this.#talk = chat === null ? null : conversation(chat);
    ui.call = true;
    try {
      const microphone = await listen((samples) => this.#send(samples));
      // It may have been ended while the browser asked.
      if (!ui.call) return microphone.close();
      this.#microphone = microphone;
      this.#player = new Player(microphone.context);
      this.#connect(microphone.context.sampleRate);
      this.#unfollow = $effect.root(() => this.#follow());
    } catch (cause) {
      this.end();
      if (cause instanceof NoMicrophone && cause.reason === 'insecure') note(t('mic.insecure'), true, { href: href({ view: 'devices' }), text: t('devices.title') });
      else note(cause instanceof NoMicrophone ? t(`mic.${cause.reason}`) : t('mic.failed'), true);
    }
  }

  end(): void {
    this.#quiet();
    this.#unfollow?.();
    this.#socket?.close();
    this.#microphone?.close();
    this.#microphone = this.#player = this.#socket = this.#unfollow = null;
    this.#unsent = [];
    this.#question = '';
    ui.call = false;
  }

  #connect(rate: number): void {
    const socket = (this.#socket = new WebSocket(earAddress()));
    socket.onopen = () => {
      const turn_detection = { type: 'server_vad', silence_duration_ms: SILENCE_MS, prefix_padding_ms: 300 };
      socket.send(JSON.stringify({ type: 'session.update', session: { type: 'transcription', audio: { input: { format: { type: 'audio/pcm', rate }, turn_detection } } } }));
      this.phase = 'listening';
    };
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)) as Heard);
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.end();
      note(t('call.lost'), true);
    };
  }

  #send(samples: Float32Array): void {
    const loud = this.#loudness.hear(samples);
    this.level = this.#loudness.level;
    this.#loud = loud ? this.#loud + 1 : 0;
    if (this.#loud === LOUD_BLOCKS && (this.phase === 'listening' || this.phase === 'speaking')) {
      performance.mark('call:loud');
      if (this.phase === 'speaking') this.#soften();
    }
    this.#unsent.push(samples);
    const length = this.#unsent.reduce((sum, block) => sum + block.length, 0);
    const rate = this.#microphone?.context.sampleRate ?? 48_000;
    if (length < rate * SEND_S || this.#socket?.readyState !== WebSocket.OPEN) return;
    const bytes = new DataView(new ArrayBuffer(length * 2));
    let at = 0;
    for (const block of this.#unsent) for (const x of block) bytes.setInt16((at += 2) - 2, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true);
    this.#unsent = [];
    this.#socket.send(JSON.stringify({ type: 'input_audio_buffer.append', audio: btoa(String.fromCharCode(...new Uint8Array(bytes.buffer))) }));
  }

  #soften(): void {
    this.#player?.soften(true);
    clearTimeout(this.#softened);
    this.#softened = window.setTimeout(() => this.#player?.soften(false), SURE_MS);
  }

  #take(event: Heard): void {
    switch (event.type) {
      case 'input_audio_buffer.speech_started':
        performance.mark('call:begun');
        this.#interrupt();
        this.partial = '';
        this.phase = 'hearing';
        break;
      case 'input_audio_buffer.speech_stopped':
        performance.mark('call:ended');
        this.phase = 'writing';
        break;
      case 'conversation.item.input_audio_transcription.delta':
        if (this.partial === '') performance.mark('call:word');
        this.partial = event.delta ?? '';
        break;
      case 'conversation.item.input_audio_transcription.completed':
        performance.mark('call:heard');
        this.partial = '';
        this.#ask(event.transcript?.trim() ?? '');
        break;
      case 'conversation.item.input_audio_transcription.failed':
        this.partial = '';
        this.phase = 'listening';
        note(event.error?.message ?? t('mic.failed'), true);
        break;
      case 'error':
        if (event.error?.code === 'no_speech_model') this.end();
        note(event.error?.message ?? t('mic.failed'), true);
        break;
      default:
        // What else the appliance tells is not needed here.
        break;
    }
  }

  /** Stops what is said and what is written. */
  #interrupt(): void {
    const speaking = this.#quiet();
    if (speaking) performance.mark('call:silent');
    if (this.#talk?.running) this.#talk.stop().catch((error: unknown) => note(failure(error).title, true));
  }

  /** Silence; whether there was any sound. */
  #quiet(): boolean {
    const sounded = (this.#player?.left ?? 0) > 0;
    this.#mouth?.abort();
    this.#mouth = null;
    this.#player?.stop();
    this.#player?.soften(false);
    clearTimeout(this.#softened);
    this.#answering = false;
    this.#pieces = [];
    return sounded;
  }

  #ask(text: string): void {
    if (text === '') {
      if (this.phase === 'writing') this.phase = 'listening';
      return;
    }
    this.#question = this.#question === '' ? text : `${this.#question} ${text}`;
    if (this.phase !== 'hearing') this.phase = 'thinking';
  }

  /** Watches the chat: asks when it is free, and reads what is written. */
  #follow(): void {
    $effect(() => {
      // Elsewhere nobody sees that the microphone is on.
      const here = route();
      if (here.view !== 'chat' || here.chat !== this.chat) untrack(() => this.end());
    });
    $effect(() => {
      if (this.#question === '' || this.#talk?.running) return;
      untrack(() => void this.#begin());
    });
    $effect(() => {
      const turn = this.#talk?.turn ?? null;
      untrack(() => this.#answer(turn));
    });
  }

  async #begin(): Promise<void> {
    const question = this.#question;
    this.#question = '';
    this.#cutter = new Cutter();
    this.#read = 0;
    this.#written = false;
    this.#answering = true;
    this.#mouth = new AbortController();
    performance.mark('call:asked');
    if (this.#talk) return void this.#talk.ask(question);
    try {
      const chat = await begin(question, this.#shelf);
      this.chat = chat;
      this.#talk = conversation(chat);
      go({ view: 'chat', chat }, true);
    } catch (error) {
      this.#quiet();
      this.phase = 'listening';
      note(failure(error).title, true);
    }
  }

  #answer(turn: Turn | null): void {
    if (!this.#answering || this.#written) return;
    if (turn?.phase === 'failed' || turn?.phase === 'lost') {
      this.#quiet();
      this.phase = 'listening';
      return;
    }
    if (turn !== null && turn.phase !== 'done') {
      if (this.#read === 0 && turn.content !== '') performance.mark('call:token');
      const fresh = this.#cutter.push(turn.content.slice(this.#read));
      this.#read = turn.content.length;
      this.#say(fresh);
      return;
    }
    // The finished answer may be longer than what was seen of it.
    const last = turn?.answer ?? this.#talk?.nodes.at(-1)?.message;
    if (last?.role !== 'assistant') return;
    this.#written = true;
    this.#say([...this.#cutter.push(last.content.slice(this.#read)), ...this.#cutter.finish()]);
    if (this.#pieces.length === 0 && this.phase === 'thinking') this.phase = 'listening';
  }

  #say(fresh: string[]): void {
    const idle = this.#pieces.length === 0;
    this.#pieces.push(...fresh);
    if (idle && this.#pieces.length > 0 && this.#mouth) void this.#utter(this.#mouth.signal);
  }

  /** Says what waits. A piece stays in the row until its sound has come. */
  async #utter(signal: AbortSignal): Promise<void> {
    try {
      for (let piece = this.#pieces[0]; piece !== undefined && !signal.aborted; piece = this.#pieces[0]) {
        const { body, rate } = await speak(piece, signal, true);
        await this.#player?.take(body, rate, signal, () => {
          if (this.phase !== 'speaking') performance.mark('call:sound');
          this.phase = 'speaking';
        });
        if (signal.aborted) return;
        this.#pieces.shift();
      }
      await this.#player?.heard(signal);
      if (!signal.aborted && this.#pieces.length === 0 && this.#written && this.phase === 'speaking') this.phase = 'listening';
    } catch (cause) {
      if (signal.aborted) return;
      this.#quiet();
      this.phase = 'listening';
      note(cause instanceof ApiError && cause.status !== 0 ? cause.message : t('speak.failed'), true);
    }
  }
}

export const call = new Call();
