// What the mock says of its machine: models from a hub, lanes, times, the check-up and the log.
import { createHash } from 'node:crypto';

const MIB = 1_000_000;

export function hubRoute(store, request, response, url, body, send, fail) {
  const path = url.pathname;
  if (path === '/v1/pull/variants') {
    const checkpoint = url.searchParams.get('checkpoint');
    if (!/^[\w.-]+\/[\w.-]+$/.test(checkpoint)) return fail(response, 400, 'bad_request', `\`${checkpoint}\` is no repository; write it as owner/name`);
    const variant = (name, size_bytes) => ({ name, primary_file: `${name}.gguf`, sharded: false, size_bytes, files: [`${name}.gguf`] });
    return send(response, { checkpoint, recipe: 'llamacpp', suggested_name: checkpoint.split('/')[1], variants: [variant('Q4_K_M', 2500 * MIB), variant('Q8_0', 22_000 * MIB), variant('F16', 61_000 * MIB)] });
  }
  if (path === '/v1/pull') {
    const id = `model:${body.model_name}`;
    const one = store.downloads.get(id) ?? { id, type: 'model', model_name: body.model_name, bytes_downloaded: 0, bytes_total: 2500 * MIB };
    store.downloads.set(id, Object.assign(one, { status: 'downloading' }));
    return send(response, one);
  }
  if (path === '/v1/downloads') {
    const all = [...store.downloads.values()].map((one) => ({ ...one }));
    // A download goes on each time that somebody looks.
    for (const one of store.downloads.values()) {
      if (one.status !== 'downloading') continue;
      one.bytes_downloaded = Math.min(one.bytes_total, one.bytes_downloaded + store.downloadStep * one.bytes_total);
      if (one.bytes_downloaded === one.bytes_total) one.status = 'completed';
    }
    return send(response, all);
  }
  if (path === '/v1/downloads/control') {
    const one = store.downloads.get(body.id);
    if (!one) return fail(response, 404, 'not_found', `Download not found: ${body.id}`);
    if (body.action === 'remove') store.downloads.delete(body.id);
    else one.status = body.action === 'pause' ? 'paused' : 'cancelled';
    return send(response, one);
  }
  const options = /^\/v1\/models\/([^/]+)\/options$/.exec(path);
  if (options) {
    const saved = (store.options[decodeURIComponent(options[1])] ??= {});
    if (body.ctx_size > 8192) return fail(response, 400, 'bad_request', `\`ctx_size\` is ${body.ctx_size} and the model was trained for 8192`);
    for (const [name, value] of Object.entries(body)) value === null ? delete saved[name] : (saved[name] = value);
    return send(response, { saved, effective: saved });
  }
  return null;
}

/** The models that suit this machine; what is on its way goes on each time that somebody looks. */
export function starterOf(store, body) {
  if (body.action) store.starter.state = body.action === 'fetch' ? 'fetching' : 'dismissed';
  const first = store.starter.parts[0];
  if (store.starter.state === 'fetching') {
    Object.assign(first, { state: 'coming', total_bytes: 2500 * MIB, done_bytes: Math.min(2500 * MIB, first.done_bytes + 1250 * MIB) });
    if (first.done_bytes === first.total_bytes) {
      first.state = 'here';
      store.starter.state = 'complete';
    }
  }
  return store.starter;
}

export function numbers(store) {
  const made = 41_230 + Math.round(performance.now() / 20);
  return {
    lanes: [
      { lane: 'ternary@cpu', active: [...store.turns.values()].filter((turn) => !turn.ended).length, requests: { finished: 96, stopped: 3 }, prompt_tokens: 90_210, made_tokens: made, joules: 8120.4, first_token_s: { count: 99, mean: 0.041 }, between_tokens_s: { count: 41_000, mean: 0.0106 } },
      { lane: 'llama-server@vulkan', active: 0, requests: { finished: 12 }, prompt_tokens: 4000, made_tokens: 2210, joules: null, first_token_s: { count: 12, mean: 0.19 }, between_tokens_s: { count: 2200, mean: 0.021 } },
    ],
    gpus: [{ name: 'Radeon 8060S', busy_percent: 37, watts: 41.5, celsius: 58 }],
    energy_joules: { package: performance.now() * 0.034 },
  };
}

export const explained = (model) => ({
  model,
  lane: 'ternary@cpu',
  reason: 'the first token comes soonest here, and the model is loaded',
  route: 'ternary@cpu',
  ranked: [
    { lane: 'ternary@cpu', model, first_token_s: 0.041, eta_s: 2.9, joules: 61.2, cost: 2.94 },
    { lane: 'llama-server@vulkan', model, first_token_s: 0.19, eta_s: 5.4, joules: 140, cost: 5.6 },
  ],
  refused: [{ lane: 'flm@npu', model, why: 'this machine has no NPU of a kind that flm knows' }],
});

export const CHECKS = [
  { name: 'processor', verdict: 'good', found: 'AVX2', wanted: 'AVX2', why: 'kernels are written for it', fix: null },
  { name: 'vulkan', verdict: 'advice', found: 'no driver', wanted: 'a Vulkan driver', why: 'the graphics chip can then answer too', fix: 'sudo apt install mesa-vulkan-drivers' },
  { name: 'memory', verdict: 'good', found: '31 GB', wanted: '2 GB', why: 'models lie in it', fix: null },
];

export const timings = (body) => {
  const prompt_n = body.prompt.split(' ').length;
  return { prompt_n, prompt_per_second: 612.4 - prompt_n / 10, predicted_n: body.n_predict, predicted_per_second: 94.3 - prompt_n / 60 };
};

const LINES = [
  ['Info', 'serve', 'listening on 127.0.0.1:8000'],
  ['Info', 'pool', 'smollm2-135m-instruct is loaded in 310 ms'],
  ['Warning', 'hip', 'no HIP library; graphics chips of AMD answer over Vulkan'],
  ['Error', 'fetch', 'the hub does not answer: connection refused'],
  ['Info', 'chat', 'answered 310 tokens at 94.3 tok/s on ternary@cpu'],
];

/** The log over a WebSocket: one snapshot after the subscription, by the protocol's own frames. */
export function logSocket(request, socket) {
  const key = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${key}\r\n\r\n`);
  const entries = LINES.map(([severity, tag, text], index) => ({ seq: index + 1, severity, tag, timestamp: '2026-01-02 10:00:00', line: `2026-01-02 10:00:0${index} [${severity}] (${tag}) ${text}` }));
  socket.once('data', () => {
    const text = Buffer.from(JSON.stringify({ type: 'logs.snapshot', entries }));
    socket.write(Buffer.concat([Buffer.from([0x81, 126, text.length >> 8, text.length & 255]), text]));
  });
  socket.on('error', () => {});
}
