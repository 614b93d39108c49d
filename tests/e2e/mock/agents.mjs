// The mock's agents: each run thinks, reads a folder, asks before it writes, and tells what came of it.
import { newId } from './store.mjs';

const AGENTS = [
  { id: 'chat', name: 'Chat', description: 'Talks, and looks into your documents.', starters: [] },
  { id: 'files', name: 'Files', description: 'Finds, reads and sorts files in the folders that you allowed.', starters: ['Find what I wrote last week.'] },
];

export const agentRoute = (response, send) => send(response, { agents: AGENTS });

export function runRoute(store, request, response, id, verb, body, send, fail) {
  if (!id && request.method === 'GET') return send(response, { runs: [...store.runs.values()].reverse().map(viewOf) });
  if (!id) return follow(start(store, body), response);
  const run = store.runs.get(id);
  if (!run) return fail(response, 404, 'not_found', 'there is no such run');
  if (verb === 'decide') {
    run.decide(body.allow);
    return send(response, { allowed: body.allow });
  }
  if (verb === 'stop') {
    end(run, 'cancelled', '');
    return send(response, { stopped: true });
  }
  if (verb === 'events') return follow(run, response);
  return send(response, { run: viewOf(run), events: run.events.map(([type, data]) => ({ type, ...data })) });
}

const viewOf = ({ id, agent, task, status, answer }) => ({ id, agent, task, status, answer, error: null });

function start(store, { agent, task }) {
  const run = { id: newId(), agent, task, status: 'running', answer: '', events: [], listeners: new Set() };
  store.runs.set(run.id, run);
  emit(run, 'started', { run: run.id });
  emit(run, 'step', { step: 1, total: 20 });
  emit(run, 'thinking', { content: 'The notes lie in one folder; it must be listed first.' });
  const call = (id, tool, args) => emit(run, 'tool_start', { call: id, tool, detail: '', args });
  const result = (id, tool, summary, content, success = true) => emit(run, 'tool_result', { call: id, tool, summary, content, success, took_ms: 41.5, finding: null });
  call('1', 'list_files', { folder: '~/notes', deep: true });
  result('1', 'list_files', '2 files', 'harbour.md\nbread.md');
  emit(run, 'step', { step: 2, total: 20 });
  const args = { command: 'wc -l ~/notes/*.md > ~/notes/count.txt' };
  call('2', 'run_command', args);
  emit(run, 'tool_confirm', { call: '2', tool: 'run_command', args, timeout_s: 120 });
  run.status = 'waiting';
  run.decide = (allow) => {
    run.status = 'running';
    emit(run, 'tool_decided', { call: '2', decision: allow ? 'allowed' : 'denied' });
    if (allow) result('2', 'run_command', 'exit code 0', '212 total');
    else result('2', 'run_command', 'refused', 'the person refused this call', false);
    end(run, 'done', allow ? 'Your notes have **212 lines**.' : 'I may not count them.');
  };
  return run;
}

function end(run, status, content) {
  Object.assign(run, { status, answer: content });
  emit(run, 'answer', { content, steps: 2, tools: 2, elapsed_s: 1 });
  emit(run, 'done', { status, content });
  for (const listener of run.listeners) listener.end();
}

const written = ([name, data], number) => `id: ${number}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

function emit(run, name, data) {
  run.events.push([name, data]);
  for (const listener of run.listeners) listener.write(written([name, data], run.events.length - 1));
}

function follow(run, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  run.events.forEach((event, number) => response.write(written(event, number)));
  if (run.status !== 'running' && run.status !== 'waiting') return response.end();
  run.listeners.add(response);
  response.on('close', () => run.listeners.delete(response));
}
