import { describe, expect, test } from 'vitest';
import { advance, empty, mend, parse, type Parsed } from '../src/lib/markdown';

const html = (text: string): string => parse(text).map((block) => (block.kind === 'html' ? block.html : `<code>${block.text}`)).join('');

const ANSWER = `# Title

A *first* paragraph with \`code\`
on two lines.

- one
- two

  still two
  \`\`\`js
  nested()
  \`\`\`

| a | b |
|---|--:|
| 1 | 2 |

\`\`\`python
def f():

    return 1
\`\`\`

> quoted

Last with a [link](https://example.org) and **bold**.
`;

function stream(text: string, size: number, each: (parsed: Parsed, sofar: string) => void = () => {}): Parsed {
  let parsed = empty();
  for (let end = size; end < text.length; end += size) {
    parsed = advance(parsed, text.slice(0, end), false);
    each(parsed, text.slice(0, end));
  }
  return advance(parsed, text, true);
}

test('the mark of a passage is a button, where there is such a passage', () => {
  const [block] = parse('Red [1], not [3], [1](https://a.b) and `[1]`.', 2);
  const made = block?.kind === 'html' ? block.html : '';
  expect(made).toContain('Red <button class="cite" type="button" data-cite="1">[1]</button>, not [3], <a href="https://a.b"');
  expect(made.match(/data-cite/g)).toHaveLength(1);
  expect(html('Red [1].')).toBe('<p>Red [1].</p>\n');
});

describe('streaming', () => {
  test.each([1, 2, 3, 7, 16, 61])('in pieces of %i ends as the whole does', (size) => {
    const { frozen, open } = stream(ANSWER, size);
    expect([...frozen, ...(open ? [open] : [])]).toEqual(parse(ANSWER));
  });

  test('a frozen block is the same object for ever', () => {
    let before: unknown[] = [];
    stream(ANSWER, 3, ({ frozen }) => {
      expect(frozen.slice(0, before.length).every((block, index) => block === before[index])).toBe(true);
      before = frozen;
    });
    expect(before.length).toBeGreaterThan(4);
  });

  test('a fence is open until it is closed', () => {
    const open = advance(empty(), 'x\n\n```rust\nfn main() {}\n', false).open;
    expect(open).toEqual({ kind: 'code', lang: 'rust', text: 'fn main() {}', closed: false });
    const closed = advance(empty(), 'x\n\n```rust\nfn main() {}\n```\n', false).open;
    expect(closed).toMatchObject({ closed: true });
  });

  test('what is parsed again stays small', () => {
    const long = Array.from({ length: 500 }, (_, n) => `Paragraph ${n}.`).join('\n\n');
    const parsed = advance(advance(empty(), long, false), `${long} More`, false);
    expect(long.length - parsed.frozen_length).toBeLessThan(40);
  });
});

describe('mend', () => {
  test.each([
    ['a **bold', 'a **bold**'],
    ['a **', 'a '],
    ['a `co', 'a `co`'],
    ['see [the docs](https://ex', 'see the docs'],
    ['see [the do', 'see the do'],
    ['one\n-', 'one\n'],
    ['one\n##', 'one\n'],
    ['```js\nlet a = "**', '```js\nlet a = "**'],
    ['done.', 'done.'],
  ])('%j shows as %j', (text, shown) => {
    expect(mend(text)).toBe(shown);
  });
});

describe('safety', () => {
  test('HTML is text', () => {
    expect(html('<img src=x onerror=alert(1)>')).not.toContain('<img');
    expect(html('<script>1</script>')).not.toContain('<script');
  });

  test('a script address is no link', () => {
    expect(html('[x](javascript:alert(1))')).not.toContain('href');
    expect(html('[x](data:text/html,1)')).not.toContain('href');
  });

  test('a picture loads nothing', () => {
    const out = html('![a cat](https://example.org/cat.png)');
    expect(out).not.toContain('<img');
    expect(out).toContain('href="https://example.org/cat.png"');
  });

  test('nothing carries a style attribute', () => {
    const out = html('| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n3. three\n4. four');
    expect(out).not.toContain('style=');
    expect(out).toContain('class="to-right"');
  });
});
