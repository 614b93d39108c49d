// A conversation is a tree of messages; what is on screen is one path from the root to a leaf. Pure.
import type { Message } from './types';

export interface Node {
  message: Message;
  /** Ids of the messages with the same parent, this one included, oldest first. */
  siblings: string[];
}

export type Children = Map<string | null, Message[]>;

export function children(messages: Iterable<Message>): Children {
  const map: Children = new Map();
  for (const message of messages) {
    const list = map.get(message.parent_id);
    if (list) list.push(message);
    else map.set(message.parent_id, [message]);
  }
  for (const list of map.values()) list.sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1));
  return map;
}

/** The path from the root to `head`; to the newest leaf where `head` is unknown. `below` saves asking who follows whom. */
export function path(messages: Map<string, Message>, head: string | null | undefined, below: Children = children(messages.values())): Node[] {
  let at: Message | undefined = head == null ? undefined : messages.get(head);
  at ??= messages.get(newestLeaf(below, null) ?? '');
  const nodes: Node[] = [];
  // A parent that is missing or that comes again ends the walk: a broken row must not hang the page.
  const seen = new Set<string>();
  while (at && !seen.has(at.id)) {
    seen.add(at.id);
    nodes.push({ message: at, siblings: (below.get(at.parent_id) ?? [at]).map((message) => message.id) });
    at = at.parent_id === null ? undefined : messages.get(at.parent_id);
  }
  return nodes.reverse();
}

/** The leaf below `id` that is reached by always taking the newest child; `id` itself where it has none. */
export function newestLeaf(below: Children, id: string | null): string | null {
  let at = id;
  const seen = new Set<string | null>();
  for (;;) {
    seen.add(at);
    const next: string | undefined = below.get(at)?.at(-1)?.id;
    if (next === undefined || seen.has(next)) return at;
    at = next;
  }
}
