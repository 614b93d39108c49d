// The official JavaScript client against an appliance: openai_client.mjs http://127.0.0.1:PORT/v1
// ONEBIT_TEST_NODE_MODULES names the folder that holds the package.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { strict } from './strict.mjs';

const require = createRequire(join(process.env.ONEBIT_TEST_NODE_MODULES, 'x.js'));
const { default: OpenAI } = require('openai');
const typed = strict(
  'openai',
  // `output_text` is the client's own; OpenAI itself sends `usage: null` until the end, whatever the types say.
  "import OpenAI from 'openai'; type Sent<T> = T extends { response: infer R } ? Omit<T, 'response'> & { response: Omit<R, 'output_text' | 'usage'> & { usage?: OpenAI.Responses.ResponseUsage | null } } : T;",
);
let checks = 0;
const check = (holds, told) => {
  assert.ok(holds, JSON.stringify(told));
  checks += 1;
};

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'unused', maxRetries: 0 });
const models = (await client.models.list()).data;
const model = typed.take('OpenAI.Model', models[0]).id;
check((await client.models.retrieve(model)).id === model);
const messages = [{ role: 'user', content: 'Count from one to five.' }];
const question = { model, messages, max_tokens: 16, temperature: 0 };
const ask = (changes = {}) => client.chat.completions.create({ ...question, ...changes });

const CHAT = 'OpenAI.Chat.ChatCompletion';
const answer = typed.take(CHAT, await ask());
const text = answer.choices[0].message.content;
check(text.length > 0 && answer.usage.completion_tokens <= 16, answer);
check(answer.usage.completion_tokens_details.reasoning_tokens === 0, answer.usage);
check(answer.id.startsWith('chatcmpl-') && answer._request_id.startsWith('req_'), answer);

let streamed = '';
let usage = null;
const reasons = [];
for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
  typed.take('OpenAI.Chat.ChatCompletionChunk', chunk);
  streamed += chunk.choices[0]?.delta?.content ?? '';
  if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
  usage = chunk.usage ?? usage;
}
check(streamed === text, streamed);
check(reasons.length === 1, reasons);
check(usage.completion_tokens === answer.usage.completion_tokens, usage);

const runner = client.chat.completions.stream(question);
check((await runner.finalContent()) === text);

// Leaving a stream early is how these clients stop an answer.
const long = await ask({ max_tokens: 500, stream: true });
for await (const _ of long) break;
long.controller.abort();
check(long.controller.signal.aborted);

const several = typed.take(CHAT, await ask({ n: 2, temperature: 1, seed: 3 }));
check(several.choices.map((choice) => choice.index).join() === '0,1', several);
const word = text.split(/\s+/)[1];
check(!(await ask({ stop: [word] })).choices[0].message.content.includes(word));
const likely = typed.take(CHAT, await ask({ max_tokens: 2, logprobs: true, top_logprobs: 3 })).choices[0].logprobs.content;
check(likely.length === 2 && likely[0].top_logprobs.length === 3, likely);

const schema = { type: 'object', properties: { n: { enum: [1, 2] } }, required: ['n'], additionalProperties: false };
const format = { type: 'json_schema', json_schema: { name: 'form', strict: true, schema } };
check([1, 2].includes(JSON.parse((await ask({ max_tokens: 40, response_format: format })).choices[0].message.content).n));
const tools = [{
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { enum: ['Berlin', 'Paris'] } }, required: ['city'], additionalProperties: false },
  },
}];
const called = typed.take(CHAT, await ask({ max_tokens: 60, tools, tool_choice: 'required' })).choices[0];
check(called.finish_reason === 'tool_calls', called);
check(['Berlin', 'Paris'].includes(JSON.parse(called.message.tool_calls[0].function.arguments).city), called);
let steps = '';
for await (const chunk of await ask({ max_tokens: 60, tools, tool_choice: 'required', stream: true })) {
  typed.take('OpenAI.Chat.ChatCompletionChunk', chunk);
  steps += chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.arguments ?? '';
}
check(steps === called.message.tool_calls[0].function.arguments, steps);
const told = { role: 'tool', tool_call_id: called.message.tool_calls[0].id, content: 'sunny' };
check((await ask({ messages: [...messages, called.message, told], tools, max_tokens: 4 })).choices.length === 1);

const prompt = { model, prompt: 'Once upon a time', max_tokens: 4, temperature: 0 };
const completion = typed.take('OpenAI.Completion', await client.completions.create(prompt));
check(completion.choices[0].text.length > 0 && completion.object === 'text_completion', completion);
let spelled = '';
for await (const chunk of await client.completions.create({ ...prompt, stream: true })) spelled += chunk.choices[0]?.text ?? '';
check(spelled === completion.choices[0].text, spelled);

const fails = async (asked, kind, param) => {
  await assert.rejects(asked, (error) => error instanceof kind && error.message.length > 0 && (!param || error.param === param));
  checks += 1;
};
await fails(ask({ model: 'no-such-model' }), OpenAI.NotFoundError, 'model');
await fails(ask({ temperature: -1 }), OpenAI.BadRequestError, 'temperature');
await fails(ask({ messages: [] }), OpenAI.BadRequestError, 'messages');
await fails(client.completions.create({ ...prompt, suffix: 'x' }), OpenAI.BadRequestError, 'suffix');
await fails(client.moderations.create({ input: 'x' }), OpenAI.NotFoundError);

// Responses: a whole one, the next that goes on from it, and a stream.
const said = { model, input: 'Count from one to five.', max_output_tokens: 16, temperature: 0 };
const first = typed.take('OpenAI.Responses.Response', await client.responses.create(said));
check(first.output_text === text, first);
const second = typed.take('OpenAI.Responses.Response', await client.responses.create({ ...said, input: 'Go on.', previous_response_id: first.id }));
check(second.usage.input_tokens > first.usage.input_tokens, second.usage);
check((await client.responses.retrieve(second.id)).id === second.id);
check((await client.responses.inputItems.list(second.id)).data[0].content[0].text === 'Go on.');
const kinds = [];
let spoken = '';
for await (const event of await client.responses.create({ ...said, stream: true })) {
  typed.take('Sent<OpenAI.Responses.ResponseStreamEvent>', event);
  kinds.push(event.type);
  if (event.type === 'response.output_text.delta') spoken += event.delta;
}
check(spoken === text, spoken);
check(kinds.slice(0, 2).join() === 'response.created,response.in_progress', kinds);
check(['response.completed', 'response.incomplete'].includes(kinds.at(-1)), kinds);
await client.responses.delete(first.id);
await fails(client.responses.retrieve(first.id), OpenAI.NotFoundError);
checks += typed.finish();
console.log(`${checks} checks`);
