// The mock's library: GAIA's paths for documents, one search, and passages for turns of chats with documents.
import { newId } from './store.mjs';

const GUIDE = ['# Harbour guide', '## Tides', 'High water comes at Quillport about noon on the day of a full moon.', '## Provisions', 'Fresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays. ☀'].join('\n\n');

export function addDocument(store, { filename, content = GUIDE, bytes = content.length, status = 'complete', ...rest }) {
  const doc = { id: newId(), filename, filepath: filename, file_size: bytes, chunk_count: status === 'complete' ? 3 : 0, indexing_status: status, progress: status === 'complete' ? 1 : 0, error_kind: null, last_error: null, pages: null, collections: [], content, ...rest };
  store.documents.set(doc.id, doc);
  return doc;
}

/** The passage about bread, wherever it stands. */
export function passageOf(doc, number = 1) {
  const text = 'Fresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays.';
  const start = [...doc.content.slice(0, doc.content.indexOf(text))].length;
  return { number, document_id: doc.id, filename: doc.filename, passage: 2, page: 7, headings: ['Harbour guide', 'Provisions'], start, end: start + [...text].length, score: 0.9, text };
}

const wire = ({ content: _, ...doc }) => doc;

/** A document is read in steps, one each time that somebody looks. */
function look(doc) {
  if (doc.indexing_status === 'pending') Object.assign(doc, { indexing_status: 'indexing', progress: 0.4 });
  else if (doc.indexing_status === 'indexing') {
    const bad = doc.filename.endsWith('.pdf');
    Object.assign(doc, bad ? { indexing_status: 'failed', error_kind: 'encrypted', last_error: 'the file is encrypted; remove its password and add it again' } : { indexing_status: 'complete', progress: 1, chunk_count: 3 });
  }
}

export async function documentRoute(store, request, response, url, send, detail) {
  const [, , , id, verb] = url.pathname.split('/').map(decodeURIComponent);
  if (id === 'raw') {
    const bytes = await bytesOf(request);
    const name = url.searchParams.get('name');
    if (name.endsWith('.zip')) return detail(response, 400, 'files of type .zip are not read; add the files inside');
    return send(response, wire(addDocument(store, { filename: name, content: bytes.toString('utf8') || GUIDE, bytes: bytes.length, status: 'pending' })));
  }
  await bytesOf(request);
  if (!id) {
    const all = [...store.documents.values()].reverse();
    all.forEach(look);
    return send(response, { documents: all.map(wire), total: all.length });
  }
  const doc = store.documents.get(id);
  if (!doc) return detail(response, 404, `there is no document \`${id}\``);
  if (request.method === 'DELETE') {
    store.documents.delete(id);
    return send(response, { deleted: true });
  }
  if (verb === 'retry') Object.assign(doc, { indexing_status: 'pending', filename: doc.filename.replace('.pdf', '.txt'), error_kind: null, last_error: null });
  if (verb === 'cancel') doc.indexing_status = 'cancelled';
  if (verb === 'content') {
    const all = [...doc.content];
    const end = Math.min(all.length, Number(url.searchParams.get('end')));
    const start = Number(url.searchParams.get('start'));
    return send(response, { content: all.slice(start, end).join(''), start, end, length: all.length });
  }
  return send(response, wire(doc));
}

export function search(store, query, within = []) {
  const docs = [...store.documents.values()].filter((doc) => doc.indexing_status === 'complete' && (within.length === 0 || doc.collections.some((id) => within.includes(id))));
  return /bread|loaf/.test(query) ? docs.slice(0, 2).map((doc, at) => passageOf(doc, at + 1)) : [];
}

export function collectionRoute(store, request, response, id, verb, rest, body, send, fail) {
  const view = (one) => ({ ...one, documents: [...store.documents.values()].filter((doc) => doc.collections.includes(one.id)).length });
  if (!id && request.method === 'POST') {
    const one = { id: newId(), name: body.name, created_at: new Date().toISOString() };
    store.collections.set(one.id, one);
    return send(response, view(one), 201);
  }
  if (!id) return send(response, { collections: [...store.collections.values()].map(view) });
  const one = store.collections.get(id);
  if (!one) return fail(response, 404, 'not_found', 'there is no such collection');
  if (verb === 'documents') {
    const doc = store.documents.get(rest);
    doc.collections = doc.collections.filter((other) => other !== id);
    if (request.method === 'PUT') doc.collections.push(id);
  } else if (request.method === 'DELETE') {
    store.collections.delete(id);
    for (const doc of store.documents.values()) doc.collections = doc.collections.filter((other) => other !== id);
  }
  return send(response, view(one));
}

function bytesOf(request) {
  return new Promise((done, failed) => {
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => done(Buffer.concat(pieces)));
    request.on('error', failed);
  });
}
