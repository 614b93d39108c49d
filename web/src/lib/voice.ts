// The microphone as a WAV file, and speech as it comes. Knows the browser's sound and nothing of the page.

/** Why there is no microphone. */
export class NoMicrophone extends Error {
  constructor(readonly reason: 'insecure' | 'denied' | 'absent') {
    super(reason);
  }
}

/** A recording that is being made. */
export interface Recording {
  /** Ends it. `null` when nothing was recorded. */
  stop(): Promise<Blob | null>;
  /** Ends it and forgets it. */
  cancel(): void;
}

/** Samples, -1 to 1, as a WAV file of 16 bits. */
export function wav(blocks: Float32Array[], rate: number): Blob {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + length * 2));
  const word = (at: number, text: string) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, 'RIFF');
  view.setUint32(4, 36 + length * 2, true);
  word(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, 'data');
  view.setUint32(40, length * 2, true);
  let at = 44;
  for (const block of blocks) for (const x of block) view.setInt16((at += 2) - 2, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true);
  return new Blob([view.buffer], { type: 'audio/wav' });
}

/** The microphone, open. */
export interface Microphone {
  context: AudioContext;
  /** Gives it back. */
  close(): void;
}

/** Opens the microphone and hands over its sound, block by block. Browsers give none to pages that came over plain http from another machine. */
export async function listen(hear: (samples: Float32Array) => void): Promise<Microphone> {
  if (!navigator.mediaDevices || !window.isSecureContext) throw new NoMicrophone('insecure');
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
  } catch (cause) {
    throw new NoMicrophone(cause instanceof DOMException && cause.name === 'NotFoundError' ? 'absent' : 'denied');
  }
  const context = new AudioContext();
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    void context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL('./capture.worklet.js', import.meta.url));
    const capture = new AudioWorkletNode(context, 'capture', { numberOfOutputs: 0 });
    capture.port.onmessage = (event: MessageEvent<Float32Array>) => hear(event.data);
    context.createMediaStreamSource(stream).connect(capture);
    return { context, close };
  } catch (cause) {
    close();
    throw cause;
  }
}

/** Begins to record. */
export async function record(): Promise<Recording> {
  const blocks: Float32Array[] = [];
  const microphone = await listen((samples) => blocks.push(samples));
  return {
    async stop() {
      const { sampleRate } = microphone.context;
      microphone.close();
      return blocks.length > 0 ? wav(blocks, sampleRate) : null;
    },
    cancel: microphone.close,
  };
}

// Sound is planned this far ahead, so that the audio thread is never late.
const AHEAD_S = 0.02;

/** Plays samples of 16 bits as they come, one stream after the other. */
export class Player {
  #until = 0;
  #playing = new Set<AudioBufferSourceNode>();
  readonly #gain: GainNode;

  constructor(readonly context: AudioContext) {
    this.#gain = context.createGain();
    this.#gain.connect(context.destination);
  }

  /** Seconds of sound that nobody has heard yet. */
  get left(): number {
    return Math.max(0, this.#until - this.context.currentTime);
  }

  /** Softer while somebody may be speaking. */
  soften(on: boolean): void {
    this.#gain.gain.setTargetAtTime(on ? 0.2 : 1, this.context.currentTime, 0.02);
  }

  /** Takes a stream to its end; `begun` is called when its first sound is planned. */
  async take(body: ReadableStream<Uint8Array>, rate: number, signal: AbortSignal, begun?: () => void): Promise<void> {
    const reader = body.getReader();
    let odd = new Uint8Array(0);
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done || signal.aborted) return;
        const bytes = new Uint8Array(odd.length + value.length);
        bytes.set(odd);
        bytes.set(value, odd.length);
        const whole = bytes.length - (bytes.length % 2);
        odd = bytes.slice(whole);
        if (whole === 0) continue;
        this.#plan(new Int16Array(bytes.buffer, 0, whole / 2), rate);
        begun?.();
        begun = undefined;
      }
    } finally {
      void reader.cancel().catch(() => undefined);
    }
  }

  #plan(numbers: Int16Array, rate: number): void {
    const buffer = this.context.createBuffer(1, numbers.length, rate);
    const samples = buffer.getChannelData(0);
    numbers.forEach((x, i) => (samples[i] = x / 32768));
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#gain);
    source.onended = () => this.#playing.delete(source);
    this.#playing.add(source);
    const at = Math.max(this.#until, this.context.currentTime + AHEAD_S);
    source.start(at);
    this.#until = at + buffer.duration;
  }

  /** Silence, now. */
  stop(): void {
    for (const source of this.#playing) source.stop();
    this.#playing.clear();
    this.#until = 0;
  }

  /** Resolves when all was heard, or `signal` says enough. */
  async heard(signal: AbortSignal): Promise<void> {
    while (this.left > 0 && !signal.aborted) {
      const { left } = this;
      await new Promise<void>((done) => {
        const end = () => (clearTimeout(timer), signal.removeEventListener('abort', end), done());
        const timer = setTimeout(end, left * 1000);
        signal.addEventListener('abort', end);
      });
    }
  }
}

/** Plays one stream. Resolves when all was heard, or `signal` says enough. */
export async function play(body: ReadableStream<Uint8Array>, rate: number, signal: AbortSignal, begun: () => void): Promise<void> {
  const player = new Player(new AudioContext());
  try {
    const quiet = () => player.stop();
    signal.addEventListener('abort', quiet, { once: true });
    await player.take(body, rate, signal, begun);
    await player.heard(signal);
  } finally {
    void player.context.close().catch(() => undefined);
  }
}
