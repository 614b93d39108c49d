import { describe, expect, test } from 'vitest';
import { fromFile, toMarkdown } from '../src/lib/chatfile';
import { fit } from '../src/lib/fit';
import { any, sample, series } from '../src/lib/history';
import type { Message, Numbers } from '../src/lib/types';

const message = (id: string, parent_id: string | null, role: Message['role'], content: string, model: string | null = null): Message => ({ id, parent_id, role, content, model, created_at: 1, finish_reason: 'stop', stats: null, reasoning: null, citations: [], pictures: 0 });

describe('a conversation as a file', () => {
  const path = [message('a', null, 'user', 'Why?\n\n# A heading of mine'), message('b', 'a', 'assistant', 'Because.\n\n## You\n\n\\## Answer · x', 'm')];

  test('Markdown comes back as it was, lookalikes too', () => {
    const text = toMarkdown('On reasons', path, (model) => (model === 'm' ? 'Model M' : ''));
    expect(text).toMatch(/^# On reasons\n\n## You\n\nWhy\?/);
    const back = fromFile(text);
    expect(back?.title).toBe('On reasons');
    expect(back?.messages.map((one) => [one.role, one.content, one.model])).toEqual([
      ['user', path[0]?.content, null],
      ['assistant', path[1]?.content, 'Model M'],
    ]);
    expect(back?.messages[1]?.parent_id).toBe(back?.messages[0]?.id);
    expect(back?.head).toBe(back?.messages[1]?.id);
  });

  test('pictures and thoughts are kept, and what only looks like them stays text', () => {
    const shown = ['data:image/png;base64,AAEC', 'data:image/gif;base64,AwQF'];
    const words = '![Picture 1](data:image/png;base64,AA==)\n\n> **Thoughts**\n> of mine';
    const asked = { ...message('a', null, 'user', words), pictures: 2, shown };
    const said = { ...message('b', 'a', 'assistant', '> **Thoughts**\n\n> a quote'), reasoning: 'First.\n\n## You\n> then this' };
    const text = toMarkdown('Eyes', [asked, said], () => '');
    expect(text).toContain('![Picture 2](data:image/gif;base64,AwQF)');
    expect(fromFile(text)?.messages.map((one) => [one.shown, one.reasoning, one.content])).toEqual([
      [shown, null, words],
      [[], said.reasoning, said.content],
    ]);
  });

  test('JSON comes back with its branches', () => {
    const messages = [...path, message('c', 'a', 'assistant', 'Otherwise.')];
    expect(fromFile(JSON.stringify({ chat: { title: 'T', head: 'c' }, messages }))).toEqual({ title: 'T', messages, head: 'c' });
  });

  test.each(['', 'just text', '# A title and nothing else', '{"a":1}', '{ broken', '{"chat":{"title":"x"},"messages":[{"id":1}]}'])('%j is no conversation', (text) => {
    expect(fromFile(text)).toBeNull();
  });
});

describe('fit', () => {
  const memory = { total_bytes: 100, available_bytes: 50, used_by_models_bytes: 30 };
  test.each([
    [40, 'yes'],
    [60, 'tight'],
    [70, 'no'],
  ] as const)('%i of 100 bytes: %s', (bytes, expected) => {
    expect(fit(bytes, memory)).toBe(expected);
  });
});

describe('history', () => {
  const numbers = (made_tokens: number, joules: number): Numbers => ({
    version: '',
    uptime_s: 0,
    queue: {},
    memory: {},
    routing: {},
    rates: [],
    rates_unsaved: 0,
    lanes: [{ lane: 'a', active: 0, requests: {}, prompt_tokens: 0, made_tokens, joules: null, first_token_s: { count: 0, mean: null }, between_tokens_s: { count: 0, mean: null } }],
    gpus: [],
    energy_joules: { package: joules },
  });

  test('rates lie between two looks, and a restart makes a gap', () => {
    const all = series([sample(0, numbers(100, 10), 5), sample(2000, numbers(160, 50), 7), sample(4000, numbers(4, 1), null)]);
    expect(all.speed).toEqual([30, null]);
    expect(all.watts).toEqual([20, null]);
    expect(all.cpu).toEqual([7, null]);
    expect([any(all.gpu), any(all.cpu)]).toEqual([false, true]);
  });
});
