// The keyboard map: one list that both the handler and the help sheet read.
import type { Key } from './i18n.svelte';

export type Action = 'palette' | 'help' | 'new' | 'edit' | 'again' | 'remove' | 'sidebar' | 'stop' | 'search' | 'compose' | 'copy' | 'older' | 'newer';

export interface Binding {
  action: Action;
  label: Key;
  key: string;
  ctrl?: true;
  shift?: true;
  alt?: true;
  /** Works only while no text field has the focus. */
  bare?: true;
}

export const BINDINGS: Binding[] = [
  { action: 'palette', label: 'key.palette', key: 'k', ctrl: true },
  { action: 'new', label: 'key.new', key: 'o', ctrl: true, shift: true },
  { action: 'compose', label: 'key.compose', key: 'Escape', shift: true },
  { action: 'stop', label: 'key.stop', key: 'Escape' },
  { action: 'edit', label: 'key.edit', key: 'e', ctrl: true, shift: true },
  { action: 'again', label: 'key.again', key: 'Enter', ctrl: true, shift: true },
  { action: 'copy', label: 'key.copy', key: 'y', ctrl: true, shift: true },
  { action: 'older', label: 'key.older', key: 'ArrowDown', alt: true },
  { action: 'newer', label: 'key.newer', key: 'ArrowUp', alt: true },
  { action: 'sidebar', label: 'key.sidebar', key: 'b', ctrl: true },
  { action: 'remove', label: 'key.remove', key: 'd', ctrl: true, shift: true },
  { action: 'search', label: 'key.search', key: '/', bare: true },
  { action: 'help', label: 'key.help', key: '?', bare: true },
];

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** The action that a key press asks for. On a Mac, Command stands for Control. */
export function match(event: KeyboardEvent): Action | null {
  if (event.isComposing) return null;
  const ctrl = event.ctrlKey || event.metaKey;
  for (const binding of BINDINGS) {
    if (binding.bare) {
      if (event.key === binding.key && !ctrl && !event.altKey && !typing(event.target)) return binding.action;
      continue;
    }
    const same = event.key.toLowerCase() === binding.key.toLowerCase();
    if (same && ctrl === Boolean(binding.ctrl) && event.shiftKey === Boolean(binding.shift) && event.altKey === Boolean(binding.alt)) return binding.action;
  }
  return null;
}

/** How a binding is written on a key cap row. */
export function caps(binding: Binding): string[] {
  const mac = /Mac|iPhone|iPad/.test(navigator.userAgent);
  const name: Record<string, string> = { Escape: 'Esc', ArrowUp: '↑', ArrowDown: '↓', Enter: '↵' };
  return [
    ...(binding.ctrl ? [mac ? '⌘' : 'Ctrl'] : []),
    ...(binding.shift ? [mac ? '⇧' : 'Shift'] : []),
    ...(binding.alt ? [mac ? '⌥' : 'Alt'] : []),
    name[binding.key] ?? binding.key.toUpperCase(),
  ];
}
