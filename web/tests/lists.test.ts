import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ages } from '../src/lib/ages';
import { plain, sentences } from '../src/lib/speech';
import { children, newestLeaf, path } from '../src/lib/tree';
import type { Chat, Message } from '../src/lib/types';

const message = (id: string, parent_id: string | null, created_at: number): Message => ({ id, parent_id, role: 'user', content: id, model: null, created_at, finish_reason: 'stop', stats: null, reasoning: null, citations: [], pictures: 0 });
const tree = new Map([message('q', null, 1), message('a1', 'q', 2), message('a2', 'q', 3), message('q2', 'a1', 4), message('a3', 'q2', 5)].map((one) => [one.id, one]));

describe('tree', () => {
  test('walks from the root to the head and names siblings', () => {
    const nodes = path(tree, 'a3');
    expect(nodes.map((node) => node.message.id)).toEqual(['q', 'a1', 'q2', 'a3']);
    expect(nodes[1]?.siblings).toEqual(['a1', 'a2']);
  });

  test('an unknown head shows the newest branch', () => {
    expect(path(tree, 'gone').map((node) => node.message.id)).toEqual(['q', 'a2']);
    expect(path(new Map(), null)).toEqual([]);
  });

  test('a branch is entered at its newest leaf', () => {
    expect(newestLeaf(children(tree.values()), 'a1')).toBe('a3');
    expect(newestLeaf(children(tree.values()), 'a2')).toBe('a2');
  });

  test('a ring of parents ends', () => {
    const ring = new Map([message('x', 'y', 1), message('y', 'x', 2)].map((one) => [one.id, one]));
    expect(path(ring, 'x').length).toBe(2);
  });
});

describe('ages', () => {
  const now = new Date(2026, 5, 15, 12).getTime();
  const chat = (id: string, hours: number, pinned = false): Chat => ({ id, title: id, model: null, pinned, created_at: 0, updated_at: now - hours * 3_600_000, head: null, running: false });

  test('groups by days, pinned first, empty groups left out', () => {
    const groups = ages([chat('p', 900, true), chat('t', 2), chat('y', 20), chat('o', 500)], now);
    expect(groups.map((group) => [group.label, group.chats.map((one) => one.id).join()])).toEqual([
      ['list.pinned', 'p'],
      ['list.today', 't'],
      ['list.yesterday', 'y'],
      ['list.older', 'o'],
    ]);
  });
});

describe('speech', () => {
  test('says whole sentences only', () => {
    expect(sentences('One. Two is unfin', 0)).toEqual({ say: 'One.', said: 5 });
    expect(sentences('no end yet', 0)).toEqual({ say: '', said: 0 });
  });

  test('without marks', () => {
    expect(plain('## A **b** [c](d)\n- e `f`')).toBe('A b c e f');
  });
});

describe('catalogues', () => {
  const folder = new URL('../src/locales/', import.meta.url);
  const read = (name: string) => JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Record<string, string>;
  const en = read('en.json');
  const holes = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();

  test.each(readdirSync(folder))('%s has every word and the same places to fill', (name: string) => {
    const words = read(name);
    expect(Object.keys(words).sort()).toEqual(Object.keys(en).sort());
    for (const key of Object.keys(en)) expect([key, holes(words[key] ?? '')]).toEqual([key, holes(en[key] ?? '')]);
  });

  test('every word is said somewhere', () => {
    const source = new URL('../src/', import.meta.url);
    const text = readdirSync(source, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|svelte)$/.test(name))
      .map((name) => readFileSync(new URL(name, source), 'utf8'))
      .join('\n');
    // A key is named whole, or made of a prefix and a state.
    const made = [...text.matchAll(/`([\w.]+\.)\$\{/g)].map((match) => match[1] ?? '');
    expect(Object.keys(en).filter((key) => !text.includes(`'${key}'`) && !made.some((prefix) => key.startsWith(prefix)))).toEqual([]);
  });
});
