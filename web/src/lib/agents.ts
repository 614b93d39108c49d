// Agents and their runs, as the appliance gives them.
import { json, send, streamed } from './api';

export interface Agent {
  id: string;
  name: string;
  description: string;
  starters: string[];
}

export interface RunRow {
  id: string;
  agent: string;
  task: string;
  status: 'running' | 'waiting' | 'done' | 'failed' | 'cancelled';
  answer: string;
  error: string | null;
}

/** One thing that happened; which fields it has follows from its type. */
export interface RunEvent {
  type: string;
  run?: string;
  call?: string;
  tool?: string;
  detail?: string;
  args?: Record<string, unknown>;
  content?: string;
  message?: string;
  reason?: string;
  summary?: string;
  success?: boolean;
  took_ms?: number;
  decision?: 'allowed' | 'denied' | 'timed_out';
  step?: number;
  total?: number;
  steps?: string[];
}

export const agents = async (): Promise<Agent[]> => (await json<{ agents: Agent[] }>('GET', 'agents')).agents;
export const runs = async (): Promise<RunRow[]> => (await json<{ runs: RunRow[] }>('GET', 'runs?limit=20')).runs;
export const run = (id: string): Promise<{ run: RunRow; events: RunEvent[] }> => json('GET', `runs/${encodeURIComponent(id)}`);
export const stopRun = async (id: string): Promise<void> => void (await send('POST', `runs/${encodeURIComponent(id)}/stop`, {}));
export const decideCall = async (id: string, call: string, allow: boolean): Promise<void> => void (await send('POST', `runs/${encodeURIComponent(id)}/decide`, { call, allow }));
export const startRun = (agent: string, task: string, signal: AbortSignal): Promise<AsyncGenerator<RunEvent>> => named('POST', 'runs', { agent, task }, signal);
export const followRun = (id: string, signal: AbortSignal): Promise<AsyncGenerator<RunEvent>> => named('GET', `runs/${encodeURIComponent(id)}/events`, undefined, signal);

async function named(method: string, path: string, body: unknown, signal: AbortSignal): Promise<AsyncGenerator<RunEvent>> {
  const events = await streamed(method, path, body, '', signal);
  return (async function* () {
    for await (const { name, data } of events) yield { ...(JSON.parse(data) as object), type: name } as RunEvent;
  })();
}
