import { describe, expect, test } from 'vitest';
import { EventReader } from '../src/lib/sse';
import { rate, resumed, running, sent, step, ttft, type Turn } from '../src/lib/turn';

const event = (name: string, data: unknown, id = '') => ({ name, data: typeof data === 'string' ? data : JSON.stringify(data), id });
const piece = (content: string, id = '') => event('message', { choices: [{ delta: { content } }] }, id);
const head = event('turn', { turn_id: 't1', user_message: { id: 'u1', content: 'hi' }, assistant_message_id: 'a1' }, '1');

function play(events: { name: string; data: string; id: string }[], from: Turn = sent(0)): Turn {
  return events.reduce((turn, next, index) => step(turn, next, (index + 1) * 100), from);
}

describe('EventReader', () => {
  const WIRE = 'id: 1\nevent: turn\ndata: {"a":1}\n\n: still here\n\nid: 2\r\ndata: one\r\ndata: two\r\n\r\ndata:three\n\n';
  const EXPECTED = [
    { name: 'turn', data: '{"a":1}', id: '1' },
    { name: 'message', data: 'one\ntwo', id: '2' },
    { name: 'message', data: 'three', id: '2' },
  ];

  test.each([1, 2, 3, 5, 8, 1000])('reads events in pieces of %i', (size) => {
    const reader = new EventReader();
    const events = [];
    for (let at = 0; at < WIRE.length; at += size) events.push(...reader.push(WIRE.slice(at, at + size)));
    expect(events).toEqual(EXPECTED);
  });

  test('an unfinished event is not given out', () => {
    expect(new EventReader().push('data: half')).toEqual([]);
  });
});

describe('step', () => {
  test('collects an answer', () => {
    const turn = play([head, piece('Hel', '2'), piece('lo', '3'), event('message', { id: 'a1', role: 'assistant', content: 'Hello' }, '4')]);
    expect(turn).toMatchObject({ phase: 'done', turn_id: 't1', answer_id: 'a1', content: 'Hello', tokens: 2, last_event_id: '4' });
    expect(turn.answer?.content).toBe('Hello');
    expect(ttft(turn)).toBe(200);
    expect(rate(turn)).toBe(10);
    expect(running(turn)).toBe(false);
  });

  test('thinks before it writes', () => {
    const thinking = play([head, event('message', { choices: [{ delta: { reasoning_content: 'hm' } }] })]);
    expect(thinking).toMatchObject({ phase: 'thinking', reasoning: 'hm', answer_at: null });
    expect(step(thinking, piece('so'), 900)).toMatchObject({ phase: 'writing', answer_at: 900 });
  });

  test('an error ends it and keeps what came', () => {
    const turn = play([head, piece('part'), event('error', { error: { message: 'out of memory', code: 'memory' } })]);
    expect(turn).toMatchObject({ phase: 'failed', content: 'part', error: { code: 'memory' } });
  });

  test('what is not JSON fails the turn in words', () => {
    expect(play([event('message', '<html>')])).toMatchObject({ phase: 'failed', error: { code: 'bad_stream' } });
  });

  test('[DONE], role pieces and unknown events change nothing but the id', () => {
    const turn = play([head, event('message', { choices: [{ delta: { role: 'assistant' } }] }), event('unheard-of', { position: 2 }, '8'), event('message', '[DONE]', '9')]);
    expect(turn).toMatchObject({ phase: 'reading', tokens: 0, last_event_id: '9' });
  });

  test('the place in the queue is told until the first word, and so is what was left out', () => {
    const waits = play([head, event('queue', { ahead: 3 }), event('queue', { ahead: 1 }), event('notice', { type: 'oldest_turns_left_out', messages: 2, text: '' })]);
    expect(waits).toMatchObject({ phase: 'reading', ahead: 1, left_out: 2 });
    expect(step(waits, piece('so'), 900)).toMatchObject({ phase: 'writing', ahead: null, left_out: 2 });
  });

  test('a resumed turn takes the whole replay', () => {
    expect(play([head, piece('again')], resumed('t1', 'a1', 0))).toMatchObject({ phase: 'writing', content: 'again', turn_id: 't1' });
  });
});
