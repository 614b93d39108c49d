// Whether the microphone hears somebody, by its loudness alone: known at once, while the appliance makes sure. Pure.

// Louder than the room by this factor, and than this at all, counts as a voice.
const ABOVE = 3.5;
const LEAST = 0.012;
// The room's own noise is followed slowly upwards and quickly downwards.
const RISE = 0.01;
const FALL = 0.2;

export class Loudness {
  #room = 0.005;
  /** Of the last block, 0 to 1, on a scale that the ear finds even. */
  level = 0;

  /** Takes a block of samples and tells whether it is louder than the room. */
  hear(samples: Float32Array): boolean {
    let sum = 0;
    for (const x of samples) sum += x * x;
    const loud = Math.sqrt(sum / Math.max(1, samples.length));
    this.level = Math.min(1, Math.max(0, 1 + Math.log10(Math.max(loud, 1e-4)) / 3));
    const voice = loud > Math.max(LEAST, this.#room * ABOVE);
    if (!voice) this.#room += (loud - this.#room) * (loud > this.#room ? RISE : FALL);
    return voice;
  }
}
