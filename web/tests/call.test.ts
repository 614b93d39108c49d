import { describe, expect, it } from 'vitest';
import { Loudness } from '../src/lib/loudness';
import { Cutter } from '../src/lib/pieces';

function cut(text: string, size = text.length): string[] {
  const cutter = new Cutter();
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += size) pieces.push(...cutter.push(text.slice(at, at + size)));
  return [...pieces, ...cutter.finish()];
}

describe('an answer in pieces', () => {
  it('begins with a clause and goes on in sentences', () => {
    expect(cut('When the sun goes down, the street lights come on one after another. People walk home. Dr. Smith paid 3.50 for it, e.g. at the market!')).toEqual([
      'When the sun goes down,',
      'the street lights come on one after another.',
      'People walk home.',
      'Dr. Smith paid 3.50 for it, e.g. at the market!',
    ]);
    expect(cut('Photosynthesis lets green plants turn the light of the sun into sugar.')[0]).toBe('Photosynthesis lets green plants turn the light');
    expect(cut('Yes.')).toEqual(['Yes.']);
    expect(cut(' \n ... \n')).toEqual([]);
  });

  it('loses nothing however the text comes, and says no marks', () => {
    const text = 'Here are **three** things that matter most of all today:\n\n1. Bread, which is `good`.\n2. Milk\n\nThat is all. And a very long sentence, ' + 'and so on, '.repeat(60) + 'until its end';
    const words = (pieces: string[]) => pieces.join(' ').split(/\s+/);
    const whole = cut(text);
    expect(whole.join(' ')).not.toMatch(/[*`#]/);
    expect(Math.max(...whole.map((piece) => piece.length))).toBeLessThanOrEqual(280);
    expect(whole[0]?.split(' ').length).toBeLessThanOrEqual(8);
    for (const word of ['three', 'Bread,', 'good.', 'Milk', 'end']) expect(words(whole)).toContain(word);
    for (const size of [1, 2, 7]) expect(words(cut(text, size)).filter((word) => /\w/.test(word) && !/^\d/.test(word))).toEqual(words(whole).filter((word) => /\w/.test(word) && !/^\d/.test(word)));
  });

  it('gives a sentence as soon as it has ended', () => {
    const cutter = new Cutter();
    expect(cutter.push('It works')).toEqual([]);
    expect(cutter.push('.')).toEqual([]);
    expect(cutter.push(' And')).toEqual(['It works.']);
    expect(cutter.finish()).toEqual(['And']);
  });
});

describe('loudness', () => {
  const block = (loud: number) => Float32Array.from({ length: 128 }, (_, i) => loud * Math.sin(i));
  it('tells a voice from a room, and a noisy room from a voice', () => {
    const ear = new Loudness();
    for (let i = 0; i < 300; i += 1) expect(ear.hear(block(0.004))).toBe(false);
    expect(ear.hear(block(0.2))).toBe(true);
    expect(ear.level).toBeGreaterThan(0.5);
    expect(ear.hear(block(0.004))).toBe(false);
  });
});
