// The official JavaScript client against an appliance: openai_client.mjs http://127.0.0.1:PORT/v1
// ONEBIT_TEST_NODE_MODULES names the folder that holds the package.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.ONEBIT_TEST_NODE_MODULES, 'x.js'));
const { default: OpenAI } = require('openai');

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'unused', maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
assert.equal((await client.models.retrieve(model)).id, model);
const messages = [{ role: 'user', content: 'Count from one to five.' }];
const question = { model, messages, max_tokens: 16, temperature: 0 };

const answer = await client.chat.completions.create(question);
const text = answer.choices[0].message.content;
assert.ok(text.length > 0 && answer.usage.completion_tokens <= 16);

let streamed = '';
const reasons = [];
for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? '';
  if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
}
assert.equal(streamed, text);
assert.equal(reasons.length, 1);

// Leaving a stream early is how these clients stop an answer.
const long = await client.chat.completions.create({ ...question, max_tokens: 500, stream: true });
for await (const _ of long) break;
long.controller.abort();

await assert.rejects(client.chat.completions.create({ ...question, model: 'no-such-model' }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ ...question, temperature: -1 }), OpenAI.BadRequestError);

// Responses: a whole one, the next that goes on from it, and a stream.
const said = { model, input: 'Count from one to five.', max_output_tokens: 16, temperature: 0 };
const first = await client.responses.create(said);
assert.equal(first.output_text, text);
const second = await client.responses.create({ ...said, input: 'Go on.', previous_response_id: first.id });
assert.ok(second.usage.input_tokens > first.usage.input_tokens);
assert.equal((await client.responses.retrieve(second.id)).id, second.id);
const kinds = [];
let spoken = '';
for await (const event of await client.responses.create({ ...said, stream: true })) {
  kinds.push(event.type);
  if (event.type === 'response.output_text.delta') spoken += event.delta;
}
assert.equal(spoken, text);
assert.deepEqual(kinds.slice(0, 2), ['response.created', 'response.in_progress']);
await client.responses.delete(first.id);
await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
