// An answer in pieces that are read aloud while the rest is written: a few words first, then sentences. Pure.
import { plain } from './speech';

// Words of the first piece, and where a mark may end it: sooner would sound cut off.
const FIRST_MAX = 8;
const FIRST_MIN = 3;
// A sentence that never ends is said in parts of this many characters.
const PIECE_MAX = 280;

const ENDS = /(?:[.!?…]["'”’)*_]*(?=\s)|[。！？]|\n\s*\n|:\n)/gu;
const SHORT = /(?:^|\s)(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|no|fig|approx|\p{Lu}|\d+)\.$/iu;
const JOINTS = new Set(['and', 'but', 'or', 'so', 'because', 'which', 'that', 'when', 'while', 'if', 'as', 'for', 'with', 'to', 'of', 'in', 'on', 'at', 'by', 'from', 'than']);

/** Cuts a text that comes bit by bit. */
export class Cutter {
  #text = '';
  #begun = false;

  /** Takes more and gives what can be said by now. */
  push(text: string): string[] {
    this.#text += text;
    return this.#cut(false);
  }

  /** What is left, once the text has ended. */
  finish(): string[] {
    return this.#cut(true);
  }

  #cut(last: boolean): string[] {
    const pieces: string[] = [];
    for (;;) {
      this.#text = this.#text.trimStart();
      const end = this.#text === '' ? 0 : this.#end(last);
      if (end === 0) return pieces;
      const piece = plain(this.#text.slice(0, end));
      this.#text = this.#text.slice(end);
      if (!/[\p{L}\p{N}]/u.test(piece)) continue;
      this.#begun = true;
      pieces.push(piece);
    }
  }

  /** Where the next piece ends; 0 while that cannot be told. */
  #end(last: boolean): number {
    const sentence = endOf(this.#text);
    const whole = sentence === 0 ? this.#text : this.#text.slice(0, sentence);
    if (!this.#begun) {
      const clause = first(whole);
      if (clause > 0) return clause;
    }
    if (whole.length > PIECE_MAX) return Math.max(whole.lastIndexOf(' ', PIECE_MAX), 0) || PIECE_MAX;
    return sentence || (last ? this.#text.length : 0);
  }
}

/** Where the first sentence ends; 0 when it may go on. */
function endOf(text: string): number {
  for (const mark of text.matchAll(ENDS)) {
    const end = mark.index + mark[0].length;
    if (mark[0].startsWith('.') && (SHORT.test(text.slice(0, mark.index + 1)) || /^\s*\p{Ll}/u.test(text.slice(end)))) continue;
    return end;
  }
  return 0;
}

/** Where the first clause of a long sentence ends: at a mark, else before a joint, else after as many words as may be. */
function first(sentence: string): number {
  const words = [...sentence.matchAll(/\S+/g)].slice(0, FIRST_MAX + 1);
  // The last word may still grow.
  if (words.length <= FIRST_MAX) return 0;
  const end = (at: number): number => {
    const word = words[at];
    return word ? word.index + word[0].length : 0;
  };
  for (let at = FIRST_MAX - 1; at >= FIRST_MIN - 1; at -= 1) if (/[,;:–—)]$/.test(words[at]?.[0] ?? '')) return end(at);
  for (let at = FIRST_MAX - 1; at >= FIRST_MIN; at -= 1) if (JOINTS.has((words[at]?.[0] ?? '').toLowerCase())) return end(at - 1);
  return end(FIRST_MAX - 1);
}
