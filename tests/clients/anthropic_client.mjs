// The official JavaScript client against an appliance: anthropic_client.mjs http://127.0.0.1:PORT/v1
// ONEBIT_TEST_NODE_MODULES names the folder that holds the package.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { strict } from './strict.mjs';

const require = createRequire(join(process.env.ONEBIT_TEST_NODE_MODULES, 'x.js'));
const { Anthropic } = require('@anthropic-ai/sdk');
const typed = strict('anthropic', "import Anthropic from '@anthropic-ai/sdk';");
let checks = 0;
const check = (holds, told) => {
  assert.ok(holds, JSON.stringify(told));
  checks += 1;
};

const client = new Anthropic({ baseURL: process.argv[2].replace(/\/v1$/, ''), apiKey: 'unused', maxRetries: 0 });
const models = await client.models.list();
const model = typed.take('Anthropic.ModelInfo', models.data[0]).id;
check(models.data[0].type === 'model', models.data);
check((await client.models.retrieve(model)).id === model);
const messages = [{ role: 'user', content: 'Count from one to five.' }];
const short = { model, messages, max_tokens: 16, temperature: 0 };

const answer = typed.take('Anthropic.Message', await client.messages.create(short));
const text = answer.content[0].text;
check(text && answer.content[0].type === 'text', answer);
check(['end_turn', 'max_tokens'].includes(answer.stop_reason), answer);
check(answer._request_id.startsWith('req_'), answer);
const count = typed.take('Anthropic.MessageTokensCount', await client.messages.countTokens({ model, messages })).input_tokens;
check(count === answer.usage.input_tokens + answer.usage.cache_read_input_tokens, answer.usage);

const stream = client.messages.stream(short);
let streamed = '';
stream.on('text', (more) => (streamed += more));
const final = typed.take('Anthropic.Message', await stream.finalMessage());
for await (const event of await client.messages.create({ ...short, stream: true })) {
  typed.take('Anthropic.RawMessageStreamEvent', event);
}
check(streamed === text && final.content[0].text === text, { streamed, text });
check(final.stop_reason === answer.stop_reason, final);
check(final.usage.output_tokens === answer.usage.output_tokens, final);

// Leaving a stream early is how these clients stop an answer.
for await (const event of await client.messages.create({ ...short, max_tokens: 500, stream: true })) {
  check(event.type === 'message_start', event);
  break;
}

const tools = [{
  name: 'weather',
  input_schema: { type: 'object', properties: { city: { enum: ['Berlin', 'Paris'] } }, required: ['city'], additionalProperties: false },
}];
const called = typed.take('Anthropic.Message', await client.messages.create({ ...short, max_tokens: 60, tools, tool_choice: { type: 'any' } }));
check(called.stop_reason === 'tool_use' && called.content[0].type === 'tool_use', called);
check(['Berlin', 'Paris'].includes(called.content[0].input.city), called);
const calling = client.messages.stream({ ...short, max_tokens: 60, tools, tool_choice: { type: 'any' } });
assert.deepEqual((await calling.finalMessage()).content[0].input, called.content[0].input);
checks += 1;

const fails = async (kind, changes) => {
  await assert.rejects(client.messages.create({ ...short, ...changes }), kind);
  checks += 1;
};
await fails(Anthropic.NotFoundError, { model: 'no-such-model' });
await fails(Anthropic.BadRequestError, { temperature: 1.5 });
await fails(Anthropic.BadRequestError, { messages: [] });
checks += typed.finish();
console.log(`${checks} checks`);
