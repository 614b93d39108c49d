// Colours of code that grows. Pure, apart from a painter that is handed in.
//
// While a block streams, what stands before its last blank line is painted once and kept; only the lines after it
// are painted again. When the block closes it is painted whole, and replaced only where that looks different.

/** Turns code into HTML, or gives `null` where it cannot. */
export type Paint = (text: string) => string | null;

export interface Coloured {
  /** Finished pieces as HTML; the list only grows while the text does. */
  pieces: string[];
  /** The lines after them. */
  open: string;
  /** How much of the text the pieces cover, and the pieces and the open lines together. */
  kept: number;
  shown: number;
  /** What was painted, so that another text is noticed. */
  source: string;
}

// The open lines are painted again with every new line; beyond this they wait for their blank line.
const OPEN_MAX = 1500;

export const plain: Coloured = { pieces: [], open: '', kept: 0, shown: 0, source: '' };

/** Goes on from `before` with a text that usually starts with the one `before` was made from. */
export function colour(before: Coloured, text: string, closed: boolean, paint: Paint): Coloured {
  if (!text.startsWith(before.source)) before = plain;
  if (closed) {
    const whole = paint(text);
    if (whole === null) return plain;
    const same = before.shown === text.length && before.pieces.join('') + before.open === whole;
    return same ? { ...before, source: text } : { pieces: [whole], open: '', kept: text.length, shown: text.length, source: text };
  }
  const end = text.lastIndexOf('\n') + 1;
  if (end <= before.shown) return before;
  const cut = text.lastIndexOf('\n\n', end) + 2;
  let { pieces, kept } = before;
  if (cut > kept + 1) {
    const piece = paint(text.slice(kept, cut));
    if (piece === null) return plain;
    pieces = [...pieces, piece];
    kept = cut;
  }
  const lines = text.slice(kept, end);
  if (lines.length > OPEN_MAX) return { ...before, pieces, kept, open: kept === before.kept ? before.open : '', shown: kept === before.kept ? before.shown : kept };
  const open = lines === '' ? '' : paint(lines);
  return open === null ? plain : { pieces, open, kept, shown: end, source: text.slice(0, end) };
}
