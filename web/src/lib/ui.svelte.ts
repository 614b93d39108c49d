// What is open on the screen right now, and what is said aloud. Nothing here outlives a reload.

import { failure } from './failure';
import type { Citation } from './types';

export const ui = $state({
  /** The sidebar as a drawer, on a narrow screen. */
  drawer: false,
  palette: false,
  help: false,
  /** Filled into the composer by a starter; the composer takes it and clears it. */
  prompt: '',
  /** Documents that the next new chat is answered from. */
  shelf: [] as string[],
  /** The model whose route is explained. */
  why: null as string | null,
  /** The passage that is open beside the view. */
  passage: null as Citation | null,
  /** What the screen reader says next. */
  spoken: '',
  notes: [] as { id: number; text: string; bad: boolean; link: Link | null }[],
  /** Whether somebody is being spoken with. */
  call: false,
});

// Long enough to read two lines; a failure stays until it is dismissed.
const NOTE_MS = 4000;
let notes = 0;

/** Where a note leads. */
export interface Link {
  href: string;
  text: string;
}

export function note(text: string, bad = false, link: Link | null = null): void {
  const id = ++notes;
  ui.notes.push({ id, text, bad, link });
  if (!bad) setTimeout(() => dropNote(id), NOTE_MS);
}

/** Waits for work and tells the person where it failed, and what to do. */
export async function told(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const { title, advice, detail } = failure(error);
    note(`${title} ${detail || advice}`, true);
  }
}

export function dropNote(id: number): void {
  ui.notes = ui.notes.filter((note) => note.id !== id);
}

export const say = (text: string): void => void (ui.spoken = text);

export const narrow = (): boolean => matchMedia('(max-width: 48rem)').matches;
