import { expect, test } from 'vitest';
import { wav } from '../src/lib/voice';

test('a recording becomes a WAV file', async () => {
  const file = wav([new Float32Array([0, 1]), new Float32Array([-2])], 48000);
  const view = new DataView(await file.arrayBuffer());
  const text = (at: number) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  expect([text(0), text(8), text(36)]).toEqual(['RIFF', 'WAVE', 'data']);
  expect([view.getUint32(4, true), view.getUint32(24, true), view.getUint32(40, true)]).toEqual([42, 48000, 6]);
  expect([44, 46, 48].map((at) => view.getInt16(at, true))).toEqual([0, 32767, -32767]);
});
