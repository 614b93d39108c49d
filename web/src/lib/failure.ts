// Turns a failure into what happened and what to do, in the person's language.
import { ApiError } from './api';
import { t, type Key } from './i18n.svelte';
import type { ErrorBody } from './types';

export interface Failure {
  title: string;
  /** What to do. */
  advice: string;
  /** The appliance's own words, where they add something. */
  detail: string;
}

// By our code, OpenAI's code or type; the first that matches.
const KNOWN: [RegExp, Key, Key][] = [
  [/unreachable/, 'fail.unreachable', 'fail.unreachable.do'],
  [/needs_https/, 'fail.https', 'fail.https.do'],
  [/too_often/, 'fail.often', 'fail.often.do'],
  [/pairing|setup_code/, 'fail.code', 'fail.code.do'],
  [/queue|in_use|rate_limit|429/, 'fail.busy', 'fail.busy.do'],
  [/context_length/, 'fail.long', 'fail.long.do'],
  [/too_large|413/, 'fail.large', 'fail.large.do'],
  [/too_big|memory/, 'fail.memory', 'fail.memory.do'],
  [/engine_failed|stream|model_unloaded/, 'fail.stream', 'fail.stream.do'],
  [/model|unsupported|template/, 'fail.model', 'fail.model.do'],
  [/auth|permission|forbidden|401|403/, 'fail.scope', 'fail.scope.do'],
  [/not_found|404/, 'fail.gone', 'fail.gone.do'],
];

export function failure(error: unknown): Failure {
  const code = error instanceof ApiError ? `${error.code} ${error.status}` : isBody(error) ? `${error.code ?? ''} ${error.type ?? ''}` : '';
  const detail = error instanceof Error || isBody(error) ? error.message : String(error);
  const known = KNOWN.find(([pattern]) => pattern.test(code));
  const unreachable = error instanceof ApiError && error.status === 0;
  return {
    title: t(known?.[1] ?? 'fail.other'),
    advice: t(known?.[2] ?? 'fail.other.do'),
    // A browser's words for a dead connection help nobody.
    detail: unreachable ? '' : detail,
  };
}

const isBody = (error: unknown): error is ErrorBody => typeof error === 'object' && error !== null && 'message' in error;
