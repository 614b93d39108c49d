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

/** Begins to record. Browsers give no microphone to pages that came over plain http from another machine. */
export async function record(): Promise<Recording> {
  if (!navigator.mediaDevices || !window.isSecureContext) throw new NoMicrophone('insecure');
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
  } catch (cause) {
    throw new NoMicrophone(cause instanceof DOMException && cause.name === 'NotFoundError' ? 'absent' : 'denied');
  }
  const context = new AudioContext();
  const end = () => {
    for (const track of stream.getTracks()) track.stop();
    void context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL('./capture.worklet.js', import.meta.url));
    const capture = new AudioWorkletNode(context, 'capture', { numberOfOutputs: 0 });
    const blocks: Float32Array[] = [];
    capture.port.onmessage = (event: MessageEvent<Float32Array>) => blocks.push(event.data);
    context.createMediaStreamSource(stream).connect(capture);
    return {
      async stop() {
        const { sampleRate } = context;
        end();
        return blocks.length > 0 ? wav(blocks, sampleRate) : null;
      },
      cancel: end,
    };
  } catch (cause) {
    end();
    throw cause;
  }
}

/** Plays samples of 16 bits as they come, one after the other. Resolves when all was heard, or `signal` says enough. */
export async function play(body: ReadableStream<Uint8Array>, rate: number, signal: AbortSignal, begun: () => void): Promise<void> {
  const context = new AudioContext();
  const reader = body.getReader();
  const stop = () => {
    void reader.cancel().catch(() => undefined);
    void context.close().catch(() => undefined);
  };
  signal.addEventListener('abort', stop, { once: true });
  let until = 0;
  let odd = new Uint8Array(0);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) break;
      const bytes = new Uint8Array(odd.length + value.length);
      bytes.set(odd);
      bytes.set(value, odd.length);
      const whole = bytes.length - (bytes.length % 2);
      odd = bytes.slice(whole);
      if (whole === 0) continue;
      const numbers = new Int16Array(bytes.buffer, 0, whole / 2);
      const buffer = context.createBuffer(1, numbers.length, rate);
      const samples = buffer.getChannelData(0);
      numbers.forEach((x, i) => (samples[i] = x / 32768));
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(context.destination);
      if (until === 0) begun();
      const at = Math.max(until, context.currentTime + 0.02);
      source.start(at);
      until = at + buffer.duration;
    }
    const left = until - context.currentTime;
    if (!signal.aborted && left > 0) {
      await new Promise<void>((heard) => {
        const timer = setTimeout(heard, left * 1000);
        signal.addEventListener('abort', () => (clearTimeout(timer), heard()), { once: true });
      });
    }
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}
