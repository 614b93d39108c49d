import { describe, expect, test } from 'vitest';
import { colour, plain, type Paint } from '../src/lib/colour';

const CODE = `def f(x):
    """doc

    more"""
    return x

class A:
    pass

print(f(1))
`;

/** A painter that says what it was given. */
function brush(): { paint: Paint; seen: string[] } {
  const seen: string[] = [];
  return { seen, paint: (text) => (seen.push(text), text.replace(/\b(def|class|return)\b/g, '<b>$1</b>')) };
}

describe('colour', () => {
  test.each([1, 3, 17])('in pieces of %i nothing of the text is lost', (size) => {
    const { paint } = brush();
    let now = plain;
    for (let end = size; end < CODE.length; end += size) {
      const text = CODE.slice(0, end);
      now = colour(now, text, false, paint);
      const html = now.pieces.join('') + now.open + text.slice(now.shown);
      expect(html.replace(/<\/?b>/g, '')).toBe(text);
    }
    now = colour(now, CODE, true, paint);
    expect(now.pieces.join('') + now.open).toBe(paint(CODE));
  });

  test('finished pieces stay the same, and are painted once', () => {
    const { paint, seen } = brush();
    let now = colour(plain, CODE.slice(0, 60), false, paint);
    const first = now.pieces[0];
    now = colour(now, CODE, false, paint);
    expect(now.pieces[0]).toBe(first);
    expect(seen.filter((text) => text.startsWith('def f(x)')).length).toBeLessThanOrEqual(2);
  });

  test('a block that closes as it stood is not painted anew', () => {
    const { paint } = brush();
    const before = colour(plain, 'return 1\n', false, paint);
    expect(colour(before, 'return 1\n', true, paint)).toMatchObject({ pieces: before.pieces, open: before.open });
  });

  test('another text starts over, and what cannot be painted stays plain', () => {
    const { paint } = brush();
    const before = colour(plain, 'def a\n', false, paint);
    expect(colour(before, 'class b\n', false, paint).open).toBe('<b>class</b> b\n');
    expect(colour(before, 'def a\n', true, () => null)).toEqual(plain);
  });
});
