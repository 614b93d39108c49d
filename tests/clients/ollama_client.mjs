// The official JavaScript client of Ollama against an appliance: ollama_client.mjs http://127.0.0.1:PORT
// ONEBIT_TEST_NODE_MODULES names the folder that holds the package.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { strict } from './strict.mjs';

const require = createRequire(join(process.env.ONEBIT_TEST_NODE_MODULES, 'x.js'));
const { Ollama } = require('ollama');

const client = new Ollama({ host: process.argv[2] });
const typed = strict(
  'ollama',
  // What the client calls a date it hands on as the text that it is.
  "import type { ChatResponse, GenerateResponse, ProgressResponse, StatusResponse } from 'ollama'; type Told<T> = Omit<T, 'created_at'> & { created_at: string };",
);
let checks = 0;
const check = (value, told) => {
  checks += 1;
  assert.ok(value, JSON.stringify(told));
};

const { models } = await client.list();
const model = models[0].model;
check(models[0].digest.length === 64 && models[0].size > 0, models[0]);
check(!Number.isNaN(Date.parse(models[0].modified_at)), models[0]);
check((await client.version()).version.split('.').length === 3);
const shown = await client.show({ model });
check(shown.capabilities.includes('tools') && shown.details.family === 'llama', shown.details);
check(shown.model_info['general.parameter_count'] > 1e8);

const question = {
  model,
  messages: [{ role: 'user', content: 'Count from one to five.' }],
  options: { num_predict: 16, temperature: 0 },
};
const answer = typed.take('Told<ChatResponse>', await client.chat(question));
check(answer.done && ['stop', 'length'].includes(answer.done_reason), answer);
check(answer.eval_count <= 16 && answer.eval_duration > 0 && answer.total_duration > answer.eval_duration, answer);

let text = '';
const ends = [];
for await (const part of await client.chat({ ...question, stream: true })) {
  text += part.message.content;
  if (part.done) ends.push(part);
}
check(text === answer.message.content, text);
check(ends.length === 1 && ends[0].eval_count === answer.eval_count, ends);

// Leaving a stream early is how these clients stop an answer.
const long = await client.chat({ ...question, options: { num_predict: 400 }, stream: true });
for await (const part of long) {
  check(!part.done);
  break;
}
long.abort();

const running = (await client.ps()).models;
check(running.length === 1 && running[0].size > 0 && Date.parse(running[0].expires_at) > Date.now(), running);

const generated = typed.take('Told<GenerateResponse>', await client.generate({ model, prompt: 'Say a word.', options: question.options }));
check(generated.response.length > 0 && generated.context.length > 0);
const more = await client.generate({ model, prompt: 'More.', context: generated.context, options: question.options });
check(more.prompt_eval_count > generated.prompt_eval_count, more);
check((await client.generate({ model, prompt: 'Once', raw: true, options: question.options })).done);

const format = { type: 'object', properties: { n: { enum: [1, 2] } }, required: ['n'], additionalProperties: false };
const shaped = await client.chat({ ...question, format, options: { num_predict: 40, temperature: 0 } });
check([1, 2].includes(JSON.parse(shaped.message.content).n), shaped);
const tools = [
  { type: 'function', function: { name: 'add', description: 'Adds.', parameters: { type: 'object', properties: {} } } },
];
check((await client.chat({ ...question, tools })).done);

const fails = async (status, asked) => {
  checks += 1;
  await assert.rejects(asked, (error) => error.status_code === status && error.message.length > 0);
};
await fails(404, client.chat({ ...question, model: 'no-such-model' }));
await fails(404, client.show({ model: 'no-such-model' }));
await fails(400, client.chat({ ...question, think: true }));
await fails(400, client.embed({ model, input: 'text' }));
await fails(501, client.push({ model }));

check(typed.take('StatusResponse', await client.copy({ source: model, destination: 'copied' })).status === 'success');
check((await client.list()).models.some((entry) => entry.model === 'copied:latest'));
check((await client.delete({ model: 'copied' })).status === 'success');
check(typed.take('Pick<ProgressResponse, "status">', await client.pull({ model })).status === 'success');
checks += typed.finish();
console.log(`${checks} checks`);
