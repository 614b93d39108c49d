// Colours code. The library and its languages are loaded in groups, when the first block needs one.
import type { HLJSApi, LanguageFn } from 'highlight.js';
import type { Paint } from './colour';

type Group = () => Promise<Record<string, LanguageFn>>;

const common: Group = async () => (await import('./languages/common')).default;
const systems: Group = async () => (await import('./languages/systems')).default;
const others: Group = async () => (await import('./languages/others')).default;

// The name after the fence, and the group that knows it.
const GROUPS: [Group, string[]][] = [
  [common, ['js', 'javascript', 'jsx', 'mjs', 'ts', 'typescript', 'tsx', 'py', 'python', 'json', 'jsonc', 'bash', 'sh', 'shell', 'zsh', 'console', 'html', 'xml', 'svg', 'css', 'scss', 'sql', 'yaml', 'yml', 'toml', 'ini', 'md', 'markdown', 'diff', 'patch']],
  [systems, ['rust', 'rs', 'c', 'h', 'cpp', 'c++', 'hpp', 'cc', 'go', 'golang', 'java', 'kotlin', 'kt', 'swift', 'cs', 'csharp', 'makefile', 'make', 'dockerfile', 'docker', 'cmake', 'nix']],
  [others, ['php', 'ruby', 'rb', 'lua', 'perl', 'r', 'haskell', 'hs', 'elixir', 'erlang', 'scala', 'dart', 'julia', 'clojure', 'lisp', 'latex', 'tex', 'powershell', 'ps1', 'graphql', 'nginx', 'protobuf', 'proto', 'wasm', 'vim', 'awk']],
];

// Above this a block stays plain: colouring it would hold the page for longer than a frame.
const LENGTH_MAX = 60_000;

let core: Promise<HLJSApi> | null = null;
const ready = new Map<Group, Promise<HLJSApi>>();

function load(group: Group): Promise<HLJSApi> {
  core ??= import('highlight.js/lib/core').then((module) => module.default);
  let promise = ready.get(group);
  if (!promise) {
    promise = Promise.all([core, group()]).then(([hljs, languages]) => {
      for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
      return hljs;
    });
    ready.set(group, promise);
  }
  return promise;
}

/** A painter for a language, or `null` where the language is not known. */
export async function painter(lang: string): Promise<Paint | null> {
  const group = GROUPS.find(([, names]) => names.includes(lang))?.[0];
  if (!group) return null;
  const hljs = await load(group);
  if (!hljs.getLanguage(lang)) return null;
  return (text) => (text.length > LENGTH_MAX ? null : hljs.highlight(text, { language: lang, ignoreIllegals: true }).value);
}
