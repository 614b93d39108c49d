// The mock's turns: they belong to the server, have numbered events, and can be joined late and stopped.
import { answer, pieces, thoughts } from './answers.mjs';
import { passageOf } from './documents.mjs';
import { addMessage, newId, stats, wire } from './store.mjs';

/** Starts a turn; `control` may slow it, hold it or break it. */
export function startTurn(store, chat, body, control) {
  let question = store.messages.get(body.parent_id);
  const turn = { id: newId(), chat: chat.id, events: [], listeners: new Set(), ended: false, stopped: false };
  if (body.content !== undefined) {
    question = addMessage(store, chat, { role: 'user', parent_id: body.parent_id, content: body.content, finish_reason: 'stop', pictures: body.pictures?.length ?? 0 });
    if (body.pictures) store.pictures.set(question.id, body.pictures);
    if (chat.title === '') chat.title = body.content.slice(0, 60);
  }
  const version = [...store.messages.values()].filter((message) => message.parent_id === question.id).length + 1;
  const reply = addMessage(store, chat, { role: 'assistant', parent_id: question.id, content: '', model: body.model });
  turn.message = reply.id;
  chat.head = reply.id;
  chat.updated_at = Date.now();
  store.turns.set(turn.id, turn);
  emit(turn, 'turn', { turn_id: turn.id, user_message: body.content === undefined ? null : wire(question), assistant_message_id: reply.id });
  const cited = (chat.collections ?? []).flatMap((id) => store.documents.get(id) ?? [...store.documents.values()].filter((doc) => doc.collections.includes(id)));
  if (cited.length > 0) {
    reply.citations = cited.map((doc, at) => passageOf(doc, at + 1));
    emit(turn, 'citations', { citations: reply.citations });
  }
  void write(turn, chat, question, reply, version, control);
  return turn;
}

async function write(turn, chat, question, reply, version, control) {
  const began = Date.now();
  let [thinks, speaks] = [null, null];
  for (const ahead of control.queue) {
    emit(turn, 'queue', { ahead });
    await control.pace(0);
  }
  if (control.leftOut > 0) emit(turn, 'notice', { type: 'oldest_turns_left_out', messages: control.leftOut, text: '' });
  const parts = [...pieces(thoughts(question.content)).map((text) => ['reasoning_content', text]), ...pieces(answer(question.content, version)).map((text) => ['content', text])];
  let made = 0;
  for (const [field, text] of parts) {
    await control.pace(made);
    if (turn.stopped) break;
    if (control.breakAfter !== null && made >= control.breakAfter) {
      control.breakAfter = null;
      reply.finish_reason = 'error';
      emit(turn, 'error', { error: { message: 'the engine ended with signal 9', type: 'engine_error', code: 'stream_lost', param: null } });
      return end(turn);
    }
    if (field === 'content') reply.content += text;
    else reply.reasoning = (reply.reasoning ?? '') + text;
    if (field === 'content') speaks ??= Date.now();
    else thinks ??= Date.now();
    made += 1;
    emit(turn, null, { id: turn.id, object: 'chat.completion.chunk', created: Math.floor(began / 1000), model: reply.model, choices: [{ index: 0, delta: { [field]: text }, finish_reason: null }] });
  }
  reply.finish_reason = turn.stopped ? 'cancelled' : 'stop';
  reply.stats = { ...stats(180 + question.content.length, made), finish_reason: reply.finish_reason, thought_ms: thinks && speaks ? Math.max(1, speaks - thinks) : null };
  chat.updated_at = Date.now();
  emit(turn, 'message', wire(reply));
  end(turn);
}

function emit(turn, name, data) {
  const text = `id: ${turn.events.length + 1}\n${name ? `event: ${name}\n` : ''}data: ${JSON.stringify(data)}\n\n`;
  turn.events.push(text);
  for (const listener of turn.listeners) listener.write(text);
}

function end(turn) {
  turn.ended = true;
  for (const listener of turn.listeners) listener.end();
}

/** Sends what was missed, then what comes. */
export function join(turn, response, after) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  for (const text of turn.events.slice(after)) response.write(text);
  if (turn.ended) return response.end();
  turn.listeners.add(response);
  response.on('close', () => turn.listeners.delete(response));
}
