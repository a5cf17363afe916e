import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Progress } from '../../common/progress.ts';
import { Encoder } from '../../models/encoder.ts';
import { hubModel } from '../../models/hub.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { freshModel } from '../../models/new-model.ts';
import { pushModel } from '../../models/push.ts';
import { exportFolder } from '../../students/export/export-folder.ts';

const SHA = 'a'.repeat(40);
const TOKEN = 'hf_test';
const folder = mkdtempSync(join(tmpdir(), 'hub-'));

/** A hub as far as fetching and pushing a model needs one, with faults on demand. */
class Hub {
  readonly files = new Map<string, Buffer>();
  readonly requests: { method: string; path: string; range?: string; token?: string }[] = [];
  /** By path: how many bytes to send before the line goes dead, a status, or other bytes; one a request. */
  readonly faults = new Map<string, ({ cutAt: number } | { status: number } | { bytes: Buffer })[]>();
  readonly uploaded = new Map<string, Buffer>();
  commit: { key: string; value: Record<string, unknown> }[] = [];
  private: boolean = false;
  ranges: boolean = true;
  server!: Server;
  url = '';

  async start(): Promise<void> {
    this.server = createServer((q, a) => {
      this.answer(q, a).catch((error) => a.destroy(error));
    });
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent((request.url ?? '').split('?')[0]);
    const { range, authorization } = request.headers;
    this.requests.push({ method: request.method ?? '', path, range, token: authorization?.replace('Bearer ', '') });
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    };
    const fault = this.faults.get(path)?.shift();
    if (fault && 'status' in fault) return json({ error: 'a fault' }, fault.status);
    if (this.private && authorization !== `Bearer ${TOKEN}`) return json({ error: 'no access' }, 401);
    if (request.method === 'GET' && path.startsWith('/api/models/org/model/revision/'))
      return json({ _id: '1', id: 'org/model', sha: SHA, private: false, downloads: 0, likes: 0, lastModified: '' });
    if (path === `/api/models/org/model/tree/${SHA}`)
      return json([...this.files].map(([name, bytes]) => ({ type: 'file', path: name, ...this.entry(name, bytes) })));
    const resolve = `/org/model/resolve/${SHA}/`;
    if (path.startsWith(resolve)) {
      const bytes = fault && 'bytes' in fault ? fault.bytes : (this.files.get(path.slice(resolve.length)) as Buffer);
      const from = this.ranges && range ? Number(range.match(/bytes=(\d+)-/)?.[1]) : 0;
      const part = bytes.subarray(from);
      response.writeHead(from ? 206 : 200, { 'Content-Length': part.length, 'X-Repo-Commit': SHA });
      if (!fault || !('cutAt' in fault)) return void response.end(part);
      response.write(part.subarray(0, fault.cutAt), () => setTimeout(() => response.destroy(), 300));
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    if (path === '/api/repos/create') return json({ url: `${this.url}/org/model`, id: '1' });
    if (path === '/api/models/org/model/preupload/main') {
      const { files } = JSON.parse(body.toString()) as { files: { path: string; size: number }[] };
      const mode = (f: { path: string }): string => (/\.(onnx|safetensors)$/.test(f.path) ? 'lfs' : 'regular');
      return json({ files: files.map((f) => ({ path: f.path, uploadMode: mode(f) })) });
    }
    if (path === '/org/model.git/info/lfs/objects/batch') {
      const { objects } = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[] };
      const upload = (oid: string) => ({ upload: { href: `${this.url}/upload/${oid}` } });
      return json({ transfer: 'basic', objects: objects.map((o) => ({ ...o, actions: upload(o.oid) })) });
    }
    if (path.startsWith('/upload/')) {
      this.uploaded.set(path.slice('/upload/'.length), body);
      return void response.writeHead(200).end();
    }
    if (path === '/api/models/org/model/commit/main') {
      this.commit = body
        .toString()
        .split('\n')
        .map((l) => JSON.parse(l));
      return json({ commitOid: SHA, commitUrl: `${this.url}/org/model/commit/${SHA}`, hookOutput: '' });
    }
    json({ error: 'not found' }, 404);
  }

  private entry(name: string, bytes: Buffer): Record<string, unknown> {
    const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
    const lfs = { oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 130 };
    return { size: bytes.length, oid, ...(name.endsWith('.onnx') ? { lfs } : {}) };
  }
}

const hub = new Hub();
const source = join(folder, 'source');
const models = ['onnx/model.onnx', 'model.onnx'];
const model = `/org/model/resolve/${SHA}/onnx/model.onnx`;
const quick = { retryDelay: 1 };

beforeAll(async () => {
  await freshModel(source, { length: 1, text: () => 'a few words of text to learn' }, { hidden: 16, vocabulary: 60 });
  for (const name of ['onnx/model.onnx', 'tokenizer.json', 'tokenizer_config.json', 'config.json'])
    hub.files.set(name, readFileSync(join(source, name)));
  hub.files.set('pytorch_model.bin', randomBytes(1000));
  hub.files.set('onnx/model_q4.onnx', randomBytes(1000));
  await hub.start();
});
afterAll(() => hub.server.close());
let home = 0;
beforeEach(() => {
  for (const name of Object.keys(process.env).filter((n) => /^(HF_|HUGGINGFACE_HUB_CACHE)/.test(n)))
    delete process.env[name];
  process.env.HF_ENDPOINT = hub.url;
  process.env.HF_HOME = join(folder, `home-${home++}`);
  hub.requests.length = 0;
  hub.faults.clear();
  Object.assign(hub, { private: false, ranges: true });
});

test('a name is fetched into the usual cache, only what is needed, and the next time from there', async () => {
  const files = await readModelFolder('org/model');
  const storage = join(process.env.HF_HOME as string, 'hub', 'models--org--model');
  expect(files.folder).toBe(join(storage, 'snapshots', SHA));
  expect(readFileSync(join(storage, 'refs', 'main'), 'utf8')).toBe(SHA);
  expect(readlinkSync(join(files.folder, 'config.json'))).toMatch(/^\.\.[/\\]\.\.[/\\]blobs/);
  expect(readdirSync(join(files.folder, 'onnx'))).toEqual(['model.onnx']);
  expect(existsSync(join(files.folder, 'pytorch_model.bin'))).toBe(false);
  const encoder = await Encoder.load('org/model');
  expect(encoder.dimensions).toBe(16);
  await encoder.dispose();
  expect(hub.requests.filter((r) => r.path === model)).toHaveLength(1);
  process.env.HF_HUB_OFFLINE = '1';
  hub.requests.length = 0;
  expect((await readModelFolder('org/model')).folder).toBe(files.folder);
  expect(hub.requests).toEqual([]);
});

test('what was cut off goes on where it stopped', async () => {
  hub.faults.set(model, [{ cutAt: 5000 }, { cutAt: 3000 }]);
  const notes: Progress[] = [];
  const at = await hubModel('org/model', models, { ...quick, onProgress: (p) => notes.push(p) });
  expect(readFileSync(join(at, 'onnx', 'model.onnx'))).toEqual(hub.files.get('onnx/model.onnx'));
  const ranges = hub.requests.filter((r) => r.path === model).map((r) => r.range);
  expect(ranges).toEqual([undefined, 'bytes=5000-', 'bytes=8000-']);
  expect(notes.some((p) => /trying again/.test(p.note ?? ''))).toBe(true);
});

test('a server without ranges, and one that stumbles, end in the same file', async () => {
  hub.ranges = false;
  hub.faults.set(model, [{ cutAt: 5000 }, { status: 503 }]);
  hub.faults.set('/api/models/org/model/revision/main', [{ status: 500 }]);
  const at = await hubModel('org/model', models, quick);
  expect(readFileSync(join(at, 'onnx', 'model.onnx'))).toEqual(hub.files.get('onnx/model.onnx'));
});

test('wrong bytes are fetched again, and never kept', async () => {
  const size = (hub.files.get('onnx/model.onnx') as Buffer).length;
  hub.faults.set(model, [{ bytes: Buffer.alloc(size) }]);
  const at = await hubModel('org/model', models, quick);
  expect(readFileSync(join(at, 'onnx', 'model.onnx'))).toEqual(hub.files.get('onnx/model.onnx'));
  process.env.HF_HOME = join(folder, 'wrong');
  hub.faults.set(model, new Array(5).fill({ bytes: Buffer.alloc(size) }));
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.checksum', exitCode: 3 });
  expect(existsSync(join(folder, 'wrong', 'hub', 'models--org--model', 'snapshots', SHA, 'onnx', 'model.onnx'))).toBe(
    false,
  );
});

test('refusals and absences say what to do, at once', async () => {
  hub.private = true;
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.no-access', exitCode: 2 });
  expect(hub.requests).toHaveLength(1);
  process.env.HF_TOKEN = TOKEN;
  expect(existsSync(await hubModel('org/model', models, quick))).toBe(true);
  expect(new Set(hub.requests.slice(1).map((r) => r.token))).toEqual(new Set([TOKEN]));
  await expect(hubModel('org/other', models, quick)).rejects.toMatchObject({ code: 'hub.not-found' });
  await expect(hubModel('org/model', ['none.onnx'], quick)).rejects.toMatchObject({ code: 'hub.no-onnx' });
  process.env.HF_TOKEN = 'two words';
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.token' });
  // A mirror's token has any form; this one has no right here.
  process.env.HF_TOKEN = 'eyJhbGciOi.abc';
  hub.requests.length = 0;
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.no-access' });
  expect(hub.requests.map((r) => r.token)).toEqual(['eyJhbGciOi.abc']);
  delete process.env.HF_TOKEN;
  process.env.HF_HUB_OFFLINE = '1';
  await expect(readModelFolder('org/other')).rejects.toMatchObject({ code: 'hub.offline' });
  await expect(readModelFolder('no/such/folder')).rejects.toMatchObject({ code: 'model.missing' });
});

test('a hub that is down is not trouble for what is cached, and is named for what is not', async () => {
  const at = await hubModel('org/model', models, quick);
  hub.faults.set('/api/models/org/model/revision/main', new Array(9).fill({ status: 500 }));
  expect(await hubModel('org/model', models, quick)).toBe(at);
  const closed = createServer();
  await new Promise<void>((done) => closed.listen(0, '127.0.0.1', done));
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
  await new Promise((done) => closed.close(done));
  expect(await hubModel('org/model', models, quick)).toBe(at);
  await expect(hubModel('org/other', models, quick)).rejects.toMatchObject({ code: 'hub.unreachable', exitCode: 2 });
});

test('a checkpoint is pushed whole, large files by their checksum, the rest in the commit', async () => {
  const out = join(folder, 'out');
  await exportFolder(source, out, { dtypes: ['int8'] });
  await expect(pushModel(out, 'org/model')).rejects.toMatchObject({ code: 'push.no-token' });
  process.env.HF_TOKEN = TOKEN;
  await expect(pushModel(source, 'org/model')).rejects.toMatchObject({ code: 'push.no-checkpoint' });
  expect(await pushModel(out, 'org/model')).toBe(`${hub.url}/org/model/commit/${SHA}`);
  const sent = hub.commit.filter((c) => c.key !== 'header');
  const paths = sent.map((c) => c.value.path as string).sort();
  expect(paths).toEqual(
    readdirSync(out, { recursive: true, withFileTypes: true })
      .filter((e) => e.isFile())
      .map((e) => join(e.parentPath, e.name).slice(out.length + 1))
      .sort(),
  );
  const large = sent.find((c) => c.value.path === 'onnx/model_quantized.onnx');
  expect(hub.uploaded.get(large?.value.oid as string)).toEqual(readFileSync(join(out, 'onnx', 'model_quantized.onnx')));
  const card = sent.find((c) => c.value.path === 'README.md');
  expect(Buffer.from(card?.value.content as string, 'base64')).toEqual(readFileSync(join(out, 'README.md')));
  expect(new Set(hub.requests.filter((r) => r.path.startsWith('/api')).map((r) => r.token))).toEqual(new Set([TOKEN]));
  hub.faults.set('/api/models/org/model/commit/main', [{ status: 403 }]);
  await expect(pushModel(out, 'org/model')).rejects.toMatchObject({ code: 'hub.no-access' });
});
