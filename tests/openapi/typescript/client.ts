// Drives the server with the types that openapi-typescript generated. See `run`.

import { strict as assert } from 'node:assert';
import createClient from 'openapi-fetch';
import type { components, paths } from './api.d.ts';

const [url, key] = process.argv.slice(2) as [string, string];
const { GET, POST, DELETE } = createClient<paths>({
  baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

/** A blue picture of 8 by 8 pixels, as BMP. */
function blue(): Blob {
  const bytes = new Uint8Array(54 + 192), view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  for (const [at, value] of [[2, 246], [10, 54], [14, 40], [18, 8], [22, 8]] as const) {
    view.setUint32(at, value, true);
  }
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  for (let at = 54; at < bytes.length; at += 3) bytes.set([200, 40, 30], at);
  return new Blob([bytes], { type: 'image/bmp' });
}

const submitted = await POST('/api/v1/uploads/bulk', {
  body: { files: [] },
  bodySerializer: () => {
    const form = new FormData();
    form.append('files', blue(), 'blue.bmp');
    return form;
  },
});
assert(submitted.data, JSON.stringify(submitted.error));
const id = submitted.data.upload_ids[0];
assert(id);

let upload: components['schemas']['Upload'];
for (;;) {
  const answer = await GET('/api/v1/uploads/{id}', { params: { path: { id } } });
  assert(answer.data);
  upload = answer.data;
  if (upload.processing_status === 'completed' || upload.processing_status === 'failed') break;
  await new Promise((done) => { setTimeout(done, 50); });
}
assert.equal(upload.processing_status, 'completed');
const facts = upload.metadata.facts;
assert.equal(facts?.width, 8);
const labels: string[] = upload.metadata.objects.map((it) => it.label);
assert(Array.isArray(labels));

const found = await GET('/api/v1/search', { params: { query: { q: 'blue', limit: 5 } } });
assert.equal(found.data?.[0]?.upload.id, id);
const thumbnail = await GET('/api/v1/uploads/{id}/thumbnail', {
  params: { path: { id } }, parseAs: 'arrayBuffer' });
assert(thumbnail.data && thumbnail.data.byteLength > 100);

// Each message is a type that its action tells apart.
function percent(message: components['schemas']['Message']): number | null {
  switch (message.action) {
    case 'upload_progress': return message.payload.progress_percent;
    case 'batch_progress': return message.payload.progress_percentage;
    case 'upload_failed': return message.cancelled ? null : 100;
    default: return null;
  }
}
const events = await fetch(`${url}/api/v1/events?after_seq=0`, { headers: { Authorization: `Bearer ${key}` } });
assert(events.body);
const seen = new Set<number | null>();
let text = '';
for await (const piece of events.body.pipeThrough(new TextDecoderStream())) {
  text += piece;
  const lines = text.split('\n');
  text = lines.pop() ?? '';
  for (const line of lines) if (line.startsWith('data: ')) seen.add(percent(JSON.parse(line.slice(6))));
  if (seen.has(100)) break;
}

const gone = await DELETE('/api/v1/uploads/{id}', { params: { path: { id } } });
assert.equal(gone.response.status, 204);
const missing = await GET('/api/v1/uploads/{id}', { params: { path: { id } } });
assert.equal(missing.error?.type, 'not_found');
process.exit(0);
