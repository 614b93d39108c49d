// The stream reducer: what one running turn looks like after each event. Pure: time comes with the event.
import type { ServerEvent } from './sse';
import type { Chunk, Citation, ErrorBody, Message, Notice, TurnStarted, TurnWaits } from './types';

export type Phase = 'sent' | 'reading' | 'thinking' | 'writing' | 'done' | 'failed' | 'lost';

export interface Turn {
  phase: Phase;
  turn_id: string | null;
  question: Message | null;
  answer_id: string | null;
  content: string;
  reasoning: string;
  /** Pieces that carried text; one is one token in most engines. */
  tokens: number;
  sent_at: number;
  first_at: number | null;
  last_at: number | null;
  /** When thinking ended and the answer began. */
  answer_at: number | null;
  last_event_id: string;
  /** Requests that are before it; `null` once it has its turn. */
  ahead: number | null;
  /** How many of the oldest messages the model has not read. */
  left_out: number;
  /** The passages that the answer is made from. */
  citations: Citation[];
  answer: Message | null;
  error: ErrorBody | null;
}

export function sent(now: number): Turn {
  return {
    phase: 'sent',
    turn_id: null,
    question: null,
    answer_id: null,
    content: '',
    reasoning: '',
    tokens: 0,
    sent_at: now,
    first_at: null,
    last_at: null,
    answer_at: null,
    last_event_id: '',
    ahead: null,
    left_out: 0,
    citations: [],
    answer: null,
    error: null,
  };
}

/** A turn that someone else started, or we before a reload. */
export function resumed(turn_id: string, answer_id: string, now: number): Turn {
  return { ...sent(now), phase: 'reading', turn_id, answer_id };
}

export const running = (turn: Turn | null | undefined): boolean =>
  turn != null && turn.phase !== 'done' && turn.phase !== 'failed' && turn.phase !== 'lost';

/** Applies one event. An event that is not JSON fails the turn with a message that says so. */
export function step(turn: Turn, event: ServerEvent, now: number): Turn {
  const next = event.id === '' ? turn : { ...turn, last_event_id: event.id };
  if (event.data === '[DONE]') return next;
  let data: unknown;
  try {
    data = JSON.parse(event.data);
  } catch {
    return { ...next, phase: 'failed', error: { message: `the stream sent something that is not JSON: ${event.data.slice(0, 80)}`, code: 'bad_stream' } };
  }
  switch (event.name) {
    case 'turn': {
      const head = data as TurnStarted;
      return { ...next, phase: next.phase === 'sent' ? 'reading' : next.phase, turn_id: head.turn_id, question: head.user_message ?? null, answer_id: head.assistant_message_id };
    }
    case 'queue':
      return { ...next, ahead: (data as TurnWaits).ahead };
    case 'notice':
      return { ...next, left_out: (data as Notice).messages };
    case 'citations':
      return { ...next, citations: (data as { citations: Citation[] }).citations };
    case 'message': {
      if (isChunk(data)) return chunk(next, data, now);
      return { ...next, phase: 'done', answer: data as Message };
    }
    case 'error': {
      const body = data as { error?: ErrorBody } & ErrorBody;
      return { ...next, phase: 'failed', error: body.error ?? body };
    }
    default:
      // An event from a newer server: what we do not know we leave alone.
      return next;
  }
}

/** The unnamed event and the event `message` have one name on the wire; a chunk is told by its `choices`. */
function isChunk(data: unknown): data is Chunk {
  return typeof data === 'object' && data !== null && ('choices' in data || 'usage' in data);
}

function chunk(turn: Turn, data: Chunk, now: number): Turn {
  if ('error' in data) return { ...turn, phase: 'failed', error: (data as { error: ErrorBody }).error };
  const delta = data.choices[0]?.delta;
  const content = delta?.content ?? '';
  const reasoning = delta?.reasoning_content ?? '';
  if (content === '' && reasoning === '') return turn;
  return {
    ...turn,
    phase: content === '' && turn.content === '' ? 'thinking' : 'writing',
    content: turn.content + content,
    reasoning: turn.reasoning + reasoning,
    tokens: turn.tokens + 1,
    ahead: null,
    first_at: turn.first_at ?? now,
    last_at: now,
    answer_at: turn.answer_at ?? (content === '' ? null : now),
  };
}

/** Tokens a second since the first one, or `null` before there is a second one to measure by. */
export function rate(turn: Turn): number | null {
  if (turn.first_at === null || turn.last_at === null || turn.tokens < 2 || turn.last_at <= turn.first_at) return null;
  return ((turn.tokens - 1) * 1000) / (turn.last_at - turn.first_at);
}

/** Milliseconds from the question to the first token. */
export const ttft = (turn: Turn): number | null => (turn.first_at === null ? null : turn.first_at - turn.sent_at);
