// The Markdown step: text in, blocks out. Pure, apart from a highlighter that is handed in.
//
// While an answer streams, only its last block is open. Blocks before it are frozen: parsed once, never again.
import MarkdownIt, { type Token } from 'markdown-it';

export type Block =
  | { kind: 'html'; html: string }
  | { kind: 'code'; lang: string; text: string; closed: boolean };

export interface Parsed {
  /** Finished blocks; the array only grows while the text does. */
  frozen: Block[];
  /** The block that may still change, or `null` when there is no text after the last frozen one. */
  open: Block | null;
  /** How much of the source the frozen blocks cover. */
  frozen_length: number;
  /** Link references met so far, and how many passages can be opened. */
  env: Record<string, unknown>;
}

const md = new MarkdownIt({ html: false, linkify: true, breaks: false, typographer: false });

// Addresses that a person wrote out; never `javascript:`, `data:` or `file:`.
md.validateLink = (url: string) => /^(https?:|mailto:|#|\/|\.{0,2}\/)/i.test(url.trim());

// A picture from elsewhere would be an outside request, so a picture is a link to itself.
md.renderer.rules.image = (tokens, index) => {
  const token = tokens[index];
  const address = String(token?.attrGet('src') ?? '');
  return `<a href="${md.utils.escapeHtml(address)}" target="_blank" rel="noreferrer noopener">${md.utils.escapeHtml(token?.content || address)}</a>`;
};

md.renderer.rules.link_open = (tokens, index, options, _env, self) => {
  const token = tokens[index];
  if (token && !String(token.attrGet('href') ?? '').startsWith('#')) {
    token.attrSet('target', '_blank');
    token.attrSet('rel', 'noreferrer noopener');
  }
  return self.renderToken(tokens, index, options);
};

// The mark of a passage opens it, where there is one of that number.
md.inline.ruler.before('link', 'cite', (state, silent) => {
  const [mark, number] = /^\[(\d{1,2})\](?!\()/.exec(state.src.slice(state.pos, state.pos + 5)) ?? [];
  if (mark === undefined || Number(number) < 1 || Number(number) > Number(state.env.cited ?? 0)) return false;
  if (!silent) state.push('cite', '', 0).content = String(number);
  state.pos += mark.length;
  return true;
});
md.renderer.rules.cite = (tokens, index) => `<button class="cite" type="button" data-cite="${tokens[index]?.content}">[${tokens[index]?.content}]</button>`;

// Wide tables scroll inside themselves, and the keyboard can reach the scroller.
md.renderer.rules.table_open = () => '<div class="table" role="region" tabindex="0"><table>';
md.renderer.rules.table_close = () => '</table></div>';

// A column's side is a class: a style attribute would be refused by our content policy.
for (const rule of ['th_open', 'td_open'] as const) {
  md.renderer.rules[rule] = (tokens, index, options, _env, self) => {
    const token = tokens[index];
    const side = /text-align:(\w+)/.exec(String(token?.attrGet('style') ?? ''))?.[1];
    if (token && side) {
      token.attrs = (token.attrs ?? []).filter(([name]) => name !== 'style');
      token.attrSet('class', `to-${side}`);
    }
    return self.renderToken(tokens, index, options);
  };
}

// Code inside lists and quotes; code at the top level becomes a block of its own kind.
md.renderer.rules.fence = (tokens, index) => nested(tokens[index]);
md.renderer.rules.code_block = (tokens, index) => nested(tokens[index]);

function nested(token: Token | undefined): string {
  return `<pre class="code" tabindex="0"><code>${md.utils.escapeHtml(token?.content ?? '')}</code></pre>`;
}

/** `cited`: how many passages the text may name. */
export const empty = (cited = 0): Parsed => ({ frozen: [], open: null, frozen_length: 0, env: { cited } });

/** Parses the whole text at once: for answers that are finished. */
export function parse(text: string, cited = 0): Block[] {
  const done = advance(empty(cited), text, true);
  return done.open === null ? done.frozen : [...done.frozen, done.open];
}

/**
 * Goes on from `before` with a text that starts with the text `before` was made from.
 * Only what follows the frozen blocks is parsed. `ended` says that no more will come.
 */
export function advance(before: Parsed, text: string, ended: boolean): Parsed {
  const rest = text.slice(before.frozen_length);
  const source = ended ? rest : mend(rest);
  const { groups, lines } = split(md.parse(source, before.env));
  if (groups.length === 0) return { ...before, open: null };
  const blocks = groups.map((group) => toBlock(group, source, before.env));
  const last = blocks.pop() ?? null;
  if (blocks.length === 0) return { ...before, open: last };
  return {
    frozen: [...before.frozen, ...blocks],
    open: last,
    frozen_length: before.frozen_length + offsetOfLine(rest, lines.at(-1) ?? 0),
    env: before.env,
  };
}

/** Groups a flat token list by top-level block, with the line where each begins. */
function split(tokens: Token[]): { groups: Token[][]; lines: number[] } {
  const groups: Token[][] = [];
  const lines: number[] = [];
  let group: Token[] = [];
  for (const token of tokens) {
    if (group.length === 0) lines.push(token.map?.[0] ?? 0);
    group.push(token);
    if (token.level === 0 && token.nesting <= 0) {
      groups.push(group);
      group = [];
    }
  }
  return { groups, lines };
}

function toBlock(group: Token[], source: string, env: Record<string, unknown>): Block {
  const token = group[0];
  if (group.length === 1 && token?.type === 'fence') {
    const lang = token.info.trim().split(/\s+/)[0]?.toLowerCase() ?? '';
    return { kind: 'code', lang, text: trimEnd(token.content), closed: fenceIsClosed(token, source) };
  }
  if (group.length === 1 && token?.type === 'code_block') return { kind: 'code', lang: '', text: trimEnd(token.content), closed: true };
  return { kind: 'html', html: md.renderer.render(group, md.options, env) };
}

const trimEnd = (text: string): string => (text.endsWith('\n') ? text.slice(0, -1) : text);

function fenceIsClosed(token: Token, source: string): boolean {
  const end = token.map?.[1] ?? 0;
  const begin = token.map?.[0] ?? 0;
  const line = source.split('\n')[end - 1]?.trim() ?? '';
  return end - 1 > begin && line.startsWith(token.markup) && /^(`+|~+)$/.test(line);
}

function offsetOfLine(text: string, line: number): number {
  let offset = 0;
  for (let n = 0; n < line; n += 1) offset = text.indexOf('\n', offset) + 1;
  return offset;
}

/**
 * Makes half-written Markdown look as it will: closes emphasis and code that is open on the last line,
 * holds back a link's half address and a line that could still become anything.
 */
export function mend(text: string): string {
  if (insideFence(text)) return text;
  const at = text.lastIndexOf('\n') + 1;
  let line = text.slice(at);
  // A lone marker: the next character decides between a list, a rule, a heading and a setext underline.
  if (/^\s*(?:[-=+*_#>|~`]{1,3}|-{2,}|={2,}|\d{1,3}[.)]?)\s*$/.test(line)) return text.slice(0, at);
  line = line.replace(/!?\[([^\]\n]*)\]\([^)\s]*$/, '$1').replace(/!?\[([^\]\n]*)$/, '$1');
  const ticks = line.match(/`+/g) ?? [];
  if (ticks.length % 2 === 1) return text.slice(0, at) + line + (ticks.at(-1) ?? '');
  const plain = line.replace(/`[^`]*`/g, '');
  const strong = (plain.match(/\*\*/g) ?? []).length;
  if (strong % 2 === 1) line = /\*\*$/.test(line) ? line.slice(0, -2) : `${line.replace(/\*$/, '').trimEnd()}**`;
  return text.slice(0, at) + line;
}

function insideFence(text: string): boolean {
  let mark = '';
  for (const line of text.split('\n')) {
    const found = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line);
    if (!found) continue;
    const fence = found[1] ?? '';
    if (mark === '') mark = fence;
    else if (fence.startsWith(mark) && (found[2] ?? '').trim() === '') mark = '';
  }
  return mark !== '';
}
