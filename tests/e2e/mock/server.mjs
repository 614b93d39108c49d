// A small server with the appliance's native routes, for developing the page and for its fast suite.
// It serves web/dist under /app/ with the appliance's content policy. `POST /mock` sets what it does next.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join as joinPath, normalize } from 'node:path';
import { agentRoute, runRoute } from './agents.mjs';
import { collectionRoute, documentRoute, search } from './documents.mjs';
import { CHECKS, explained, hubRoute, logSocket, numbers, starterOf, timings } from './machine.mjs';
import { addChat, addMessage, furnish, makeStore, messagesOf, stats, tailOf, takeChat } from './store.mjs';
import { join, startTurn } from './turns.mjs';

const DIST = new URL('../../../web/dist', import.meta.url).pathname;
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.png': 'image/png', '.webmanifest': 'application/manifest+json', '.json': 'application/json' };

export function startMock({ port = 0, furnished = false, delay_ms = 8 } = {}) {
  const store = makeStore();
  if (furnished) furnish(store);
  const control = makeControl(delay_ms);
  const server = createServer((request, response) => {
    handle(store, control, request, response).catch((error) => fail(response, 500, 'internal', String(error)));
  });
  server.on('upgrade', logSocket);
  return new Promise((ready) => {
    server.listen(port, '127.0.0.1', () => {
      ready({ base: `http://127.0.0.1:${server.address().port}/app/`, store, control, close: () => (server.closeAllConnections(), server.close()) });
    });
  });
}

/** How turns behave: `delay_ms` between pieces, `hold()` after a number of pieces until `release()`. */
function makeControl(delay_ms) {
  const control = {
    delay_ms,
    failNext: null,
    session: { signed_in: true, scope: 'owner', private: true, claimable: false, https_port: 8443, authority: { sha256: '00', words: 'babab lusob' } },
    devices: [{ id: 'd', name: 'iPhone, Safari', scope: 'chat', seen_at: 1, seen_from: '192.168.1.8' }],
    keys: [{ id: 'k', name: 'Editor', scope: 'infer', seen_at: null, seen_from: null }],
    tunnels: [],
    pairing: null,
    allowed: true,
    decided: null,
    breakAfter: null,
    /** Places in the queue that a turn is told, one after the other. */
    queue: [],
    leftOut: 0,
    holdAfter: Infinity,
    waiting: [],
    async pace(made) {
      if (made >= control.holdAfter) await new Promise((resume) => control.waiting.push(resume));
      else await new Promise((resume) => setTimeout(resume, control.delay_ms));
    },
    release() {
      control.holdAfter = Infinity;
      for (const resume of control.waiting.splice(0)) resume();
    },
  };
  return control;
}

async function handle(store, control, request, response) {
  const url = new URL(request.url, 'http://mock');
  if (url.pathname === '/') return response.writeHead(307, { location: '/app/' }).end();
  if (url.pathname.startsWith('/app/')) return asset(url.pathname.slice(5) || 'index.html', response);
  if (url.pathname.startsWith('/api/documents')) return documentRoute(store, request, response, url, send, (to, status, detail) => send(to, { detail }, status));
  const body = await read(request);
  if (url.pathname === '/v1/search') return send(response, { passages: search(store, body.query, body.collections) });
  if (url.pathname === '/stats') return send(response, numbers(store));
  if (url.pathname === '/v1/system-stats') return send(response, { cpu_percent: 23.5 });
  if (url.pathname === '/v1/route/explain') return send(response, explained(url.searchParams.get('model')));
  if (url.pathname === '/completion') return send(response, { content: '', timings: timings(body) });
  if (url.pathname.startsWith('/v1/') && hubRoute(store, request, response, url, body, send, fail) !== null) return;
  const [, root, kind, id, verb, rest] = url.pathname.split('/').map(decodeURIComponent);
  if (root !== 'onebit') return fail(response, 404, 'not_found', 'there is no such route');
  if (kind === 'session') return send(response, control.session);
  if (kind === 'devices' || kind === 'keys') return send(response, { [kind]: control[kind] });
  if (kind === 'pair') return send(response, id ? { state: control.allowed ? 'in' : 'waiting' } : { id: 'p', secret: 's', digits: '481 294' }, id ? 200 : 201);
  if (kind === 'mesh') return meshRoute(control, request, response, verb, body);
  if (kind === 'headscale') return headscaleRoute(control, request, response, verb, body);
  if (kind === 'pairing') return pairingRoute(control, request, response, id, body);
  if (kind === 'status') return send(response, statusOf(store));
  if (kind === 'starter') return send(response, starterOf(store, body));
  if (kind === 'models') return modelRoute(store, request, response, id, verb);
  if (kind === 'update') return send(response, { installed: '0.1.0', newest: '0.2.0', newer: true, command: 'onebit update' });
  if (kind === 'hub') return findModels(url.searchParams.get('query'), response);
  if (kind === 'messages') return picture(store.pictures.get(id)?.[Number(rest)], response);
  if (kind === 'doctor') return send(response, { checks: CHECKS });
  if (kind === 'logical') return send(response, { logical: [], pins: store.pins });
  if (kind === 'collections') return collectionRoute(store, request, response, id, verb, rest, body, send, fail);
  if (kind === 'turns') return turnRoute(store, request, response, id, verb);
  if (kind === 'agents') return agentRoute(response, send);
  if (kind === 'runs') return runRoute(store, request, response, id, verb, body, send, fail);
  if (kind === 'chats') return chatRoute(store, control, request, response, url, id, verb, body);
  return fail(response, 404, 'not_found', 'there is no such route');
}

function headscaleRoute(control, request, response, node, body) {
  if (!control.headscale) return fail(response, 409, 'headscale_not_set', 'no Headscale server is set; set url and key under [headscale]');
  if (request.method === 'DELETE') control.headscale = control.headscale.filter((one) => one.id !== node);
  if (request.method !== 'POST') return send(response, { version: 'v0.28.0', nodes: control.headscale });
  control.invited = body.user;
  return send(response, { server: 'https://hs.example.org', key: 'hskey-once', expires_in_min: 60, picture: { size: 3, path: 'M1 1h1v1h-1z' } }, 201);
}

function meshRoute(control, request, response, device, body) {
  if (request.method === 'DELETE') control.tunnels = control.tunnels.filter((one) => one !== device);
  if (request.method !== 'POST') return send(response, { enabled: true, failure: null, peers: control.tunnels.map((one) => ({ device: one, handshake_s: 3 })) });
  control.tunnels.push(body.device);
  const code = (endpoint) => ({ endpoint, settings: `[Interface]\nPrivateKey = K\n[Peer]\nEndpoint = ${endpoint}\n`, picture: { size: 3, path: 'M1 1h1v1h-1z' } });
  const verdict = { state: 'open', endpoint: '8.8.4.4:51820', by: 'PCP' };
  return send(response, { device: body.device, address: '10.77.0.2', own_address: '10.77.0.1', home: code('192.168.1.2:51820'), anywhere: code('8.8.4.4:51820'), verdict }, 201);
}

const HITS = [
  { repository: 'lab/small-model', downloads: 41_230, likes: 310, licence: 'apache-2.0', gated: false },
  { repository: 'house/small-model-pro', downloads: 9_100, likes: 12, licence: null, gated: true },
];

function findModels(words, response) {
  if (words === 'offline') return fail(response, 503, 'pull_failed', 'offline is set; the hub was not contacted');
  return send(response, { models: HITS.filter((one) => one.repository.includes(words)) });
}

function picture(address, response) {
  if (!address) return fail(response, 404, 'not_found', 'there is no such picture');
  const [, kind, bytes] = /^data:([^;]+);base64,(.*)$/.exec(address);
  return response.writeHead(200, { 'content-type': kind }).end(Buffer.from(bytes, 'base64'));
}

function pairingRoute(control, request, response, id, body) {
  if (id) {
    control.decided = body;
    control.pairing = { ...control.pairing, state: body.allow ? 'done' : 'refused' };
    return send(response, { id, allowed: body.allow });
  }
  if (request.method === 'GET') return send(response, { pairings: [control.pairing] });
  control.pairing = { id: 'p', state: 'waiting', expires_in_ms: 120_000, name: 'Pixel', address: '192.168.1.9', digits: '481 294' };
  return send(response, { id: 'p', code: 'ABCD-1234', link: 'https://192.168.1.2:8443/pair#c=X', page: 'https://192.168.1.2:8443/pair', picture: { size: 3, path: 'M1 1h1v1h-1z' }, reachable: true, expires_in_ms: 120_000 }, 201);
}

function statusOf(store) {
  const loaded = store.models.filter((model) => model.state === 'loaded');
  const active = [...store.turns.values()].filter((turn) => !turn.ended).length;
  return { version: '0.1.0', uptime_s: 187_300, models: loaded, memory: { total_bytes: 33_500_000_000, available_bytes: 21_200_000_000, used_by_models_bytes: loaded.reduce((sum, model) => sum + (model.memory_bytes ?? 0), 0) }, queue: { active, waiting: 0 }, gpu: store.gpu };
}

function modelRoute(store, request, response, id, verb) {
  if (!id) return send(response, { models: store.models });
  const model = store.models.find((one) => one.id === id);
  if (!model) return fail(response, 404, 'model_not_found', `there is no model ${id}`);
  if (verb === 'pin') store.pins.push(id);
  if (verb === 'unpin') store.pins = store.pins.filter((one) => one !== id);
  if (request.method === 'DELETE') store.models = store.models.filter((one) => one !== model);
  if (verb === 'load' && model.state === 'failed') return fail(response, 507, 'memory', model.error);
  if (verb === 'unload') Object.assign(model, { state: 'ready', memory_bytes: null });
  if (verb === 'load' && model.state !== 'loaded') {
    model.state = 'loading';
    setTimeout(() => Object.assign(model, { state: 'loaded', memory_bytes: Math.round(model.file_bytes * 1.3) }), 900);
  }
  return send(response, { model }, 202);
}

function turnRoute(store, request, response, id, verb) {
  const turn = store.turns.get(id);
  if (!turn) return fail(response, 404, 'not_found', 'there is no such turn');
  if (verb === 'stop') {
    turn.stopped = true;
    return send(response, {});
  }
  return join(turn, response, Number(request.headers['last-event-id'] ?? 0));
}

function chatRoute(store, control, request, response, url, id, verb, body) {
  if (!id && request.method === 'GET') return send(response, { chats: list(store, url.searchParams) });
  if (!id) return send(response, { chat: addChat(store, { model: body.model }) }, 201);
  if (id === 'import') return send(response, { chat: takeChat(store, body) }, 201);
  const chat = store.chats.get(id);
  if (!chat) return fail(response, 404, 'not_found', 'there is no such chat');
  if (verb === 'turns') {
    if (control.failNext) {
      const { status, code, message } = control.failNext;
      control.failNext = null;
      return fail(response, status, code, message);
    }
    return join(startTurn(store, chat, body, control), response, 0);
  }
  if (request.method === 'PATCH') return send(response, { chat: Object.assign(chat, body) });
  if (request.method === 'DELETE') {
    store.chats.delete(id);
    return send(response, {});
  }
  const turns = [...store.turns.values()].filter((turn) => turn.chat === id && !turn.ended).map((turn) => ({ turn_id: turn.id, assistant_message_id: turn.message }));
  const last = url.searchParams.get('last');
  const messages = last === null ? messagesOf(store, chat) : tailOf(store, chat, Number(last));
  if (url.searchParams.get('pictures') === 'true') for (const message of messages) message.shown = store.pictures.get(message.id) ?? [];
  const whole = last === null || messages.length === messagesOf(store, chat).length;
  return send(response, { chat, messages, turns, collections: chat.collections ?? [], whole });
}

function list(store, query) {
  const words = (query.get('query') ?? '').toLowerCase();
  const limit = Number(query.get('limit') ?? 50) || 50;
  const before = Number(query.get('before') ?? Infinity);
  const running = new Set([...store.turns.values()].filter((turn) => !turn.ended).map((turn) => turn.chat));
  return [...store.chats.values()]
    .filter((chat) => chat.updated_at < before && (words === '' || chat.title.toLowerCase().includes(words) || messagesOf(store, chat).some((message) => message.content.toLowerCase().includes(words))))
    .sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.updated_at - a.updated_at)
    .slice(0, limit)
    .map((chat) => ({ ...chat, running: running.has(chat.id), ...foundIn(store, chat, words) }));
}

/** What stands around the words of a search, where a message has them. */
function foundIn(store, chat, words) {
  if (words === '') return {};
  const said = messagesOf(store, chat).findLast((message) => message.content.toLowerCase().includes(words));
  if (!said) return {};
  const at = said.content.toLowerCase().indexOf(words);
  return { found: `${at > 24 ? '…' : ''}${said.content.slice(Math.max(0, at - 24), at + 96).replace(/\s+/g, ' ')}` };
}

function asset(name, response) {
  const path = joinPath(DIST, normalize(`/${name}`));
  if (!existsSync(path) || !statSync(path).isFile()) return fail(response, 404, 'not_found', `${name} is not there: run npm run build in web/`);
  response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': CSP, 'cache-control': 'no-cache' });
  createReadStream(path).pipe(response);
}

function read(request) {
  return new Promise((done, failed) => {
    let text = '';
    request.on('data', (piece) => (text += piece));
    request.on('end', () => done(text === '' ? {} : JSON.parse(text)));
    request.on('error', failed);
  });
}

const send = (response, body, status = 200) => (response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)), true);
const fail = (response, status, code, message) => send(response, { error: { message, type: 'invalid_request_error', code, param: null } }, status);

export { addChat, addMessage, stats };

if (import.meta.url === `file://${process.argv[1]}`) {
  const mock = await startMock({ port: Number(process.env.PORT ?? 8123), furnished: true, delay_ms: 18 });
  console.log(`mock at ${mock.base}`);
}
