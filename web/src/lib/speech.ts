// What a screen reader hears of a streaming answer: whole sentences, a few at a time. Pure.

/** Splits off what may be read aloud; the rest is an unfinished sentence. */
export function sentences(text: string, said: number): { say: string; said: number } {
  const fresh = text.slice(said);
  const end = Math.max(...['. ', '! ', '? ', '.\n', '!\n', '?\n', ':\n', '。', '！', '？', '\n\n'].map((mark) => (fresh.lastIndexOf(mark) < 0 ? -1 : fresh.lastIndexOf(mark) + mark.length)));
  if (end <= 0) return { say: '', said };
  return { say: plain(fresh.slice(0, end)), said: said + end };
}

/** Markdown without its marks. */
export const plain = (text: string): string =>
  text
    .replace(/```\w*\n?/g, ' ')
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    // Numbers of citations are for the eye.
    .replace(/\s*\[\d+\]/g, '')
    .replace(/^[ \t]*(?:#{1,6}|[-*+]|\d+[.)]|>)[ \t]+/gm, '')
    .replace(/[*_`~|]+/g, '')
    .replace(/\s+/g, ' ')
    .trim();
