/** @file A hub that is not to be trusted, or says nothing: no path outside, no token elsewhere, no end without a sentence. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createPlainServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { endRequestsWith, request } from '../../common/http.ts';
import { hubModel } from '../../models/hub.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const closing: Server[] = [];
let home = '';
const environment = { ...process.env };

async function serve(answer: Answer): Promise<string> {
  const server = createServer(answer);
  closing.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
beforeEach(() => {
  for (const name of Object.keys(process.env).filter((n) => /^HF_/.test(n))) delete process.env[name];
  home = mkdtempSync(join(tmpdir(), 'hostile-hub-'));
  process.env.HF_HOME = join(home, 'home');
});
afterEach(() => {
  process.env = { ...environment };
  for (const server of closing.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

const SHA = 'b'.repeat(40);
const OID = 'c'.repeat(40);
const json = (response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void =>
  void response.writeHead(200, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(value));
const quick = { retryDelay: 1 };
const models = ['model.onnx'];
const fileOf = (more: object = {}): object => ({ type: 'file', path: 'model.onnx', size: 4, oid: OID, ...more });

/** A hub that says this commit and these entries. */
const hub = (sha: unknown, entries: unknown[], more?: Answer): Promise<string> =>
  serve((q, a) => {
    if (q.url?.includes('/revision/')) return json(a, { _id: '1', id: 'org/model', sha, private: false });
    if (q.url?.includes('/tree/')) return json(a, entries);
    if (more) return more(q, a);
    a.writeHead(200).end('abcd');
  });
const everything = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [];

describe('names are checked before they are joined to paths', () => {
  test.each([
    ['../../../../outside'],
    [`${SHA}/../../../x`],
    ['a'.repeat(39)],
    [`${SHA}\n`],
    [null],
    [7],
    ['\u001b[31mred'],
  ])('the commit %j', async (sha) => {
    process.env.HF_ENDPOINT = await hub(sha, [fileOf()]);
    const failed = hubModel('org/model', models, quick);
    await expect(failed).rejects.toMatchObject({ code: 'hub.untrusted', exitCode: 3 });
    await expect(failed).rejects.toThrow(/^[\u0020-\u007e]*its commit is '[\u0020-\u007e]*$/);
    expect(everything(home).filter((f) => !/^home$/.test(f))).toEqual([]);
  });
  test.each([
    ['path', { path: '../../../../model.onnx' }],
    ['path', { path: '/etc/passwd' }],
    ['path', { path: 'a\\..\\..\\b' }],
    ['path', { path: 'a//b' }],
    ['path', { path: 'C:/x' }],
    ['path', { path: 'x\u0000y' }],
    ['path', { path: 5 }],
    ['oid', { oid: '../../../../etc/passwd' }],
    ['oid', { oid: 'C'.repeat(40) }],
    ['lfs', { lfs: { oid: OID, size: 4, pointerSize: 1 } }],
    ['lfs', { lfs: { oid: `../${'c'.repeat(61)}`, size: 4, pointerSize: 1 } }],
    ['size', { size: -1 }],
    ['size', { size: 'many' }],
    ['size', { size: 1e300 }],
  ])('the %s %j', async (_, more) => {
    process.env.HF_ENDPOINT = await hub(SHA, [fileOf(more)]);
    await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.untrusted' });
    expect(everything(home)).toEqual([]);
  });
  test.each(['../../outside', 'a/../../../b', '/abs', 'a//b', '..'])('the revision %s', async (revision) => {
    process.env.HF_ENDPOINT = await hub(SHA, [fileOf()]);
    await expect(hubModel(`org/model@${revision}`, models, quick)).rejects.toMatchObject({ code: 'hub.revision' });
  });
  test('a ref in the cache that is not a commit is not followed', async () => {
    const storage = join(home, 'home', 'hub', 'models--org--model');
    mkdirSync(join(storage, 'refs'), { recursive: true });
    mkdirSync(join(home, 'home', 'elsewhere'));
    writeFileSync(join(home, 'home', 'elsewhere', 'model.onnx'), 'x');
    writeFileSync(join(storage, 'refs', 'main'), '../../../elsewhere');
    process.env.HF_HUB_OFFLINE = '1';
    await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.offline' });
  });
});

test('a next page of another host is not requested, and the token is not sent', async () => {
  const seen: (string | undefined)[] = [];
  const other = await serve((q, a) => {
    seen.push(q.headers.authorization);
    json(a, []);
  });
  process.env.HF_ENDPOINT = await serve((q, a) =>
    q.url?.includes('/tree/')
      ? json(a, [fileOf()], { Link: `<${other}/api/next>; rel="next"` })
      : json(a, { _id: '1', id: 'org/model', sha: SHA, private: false }),
  );
  process.env.HF_TOKEN = 'secret-token';
  await expect(hubModel('org/model', models, quick)).rejects.toThrow(/it leads to another host, http:\/\/127/);
  expect(seen).toEqual([]);
});

test('a file that redirects to a store of another host goes there without the token', async () => {
  const seen: (string | undefined)[] = [];
  const store = await serve((q, a) => {
    seen.push(q.headers.authorization);
    a.writeHead(200).end('abcd');
  });
  const own: (string | undefined)[] = [];
  process.env.HF_ENDPOINT = await hub(SHA, [fileOf()], (q, a) => {
    own.push(q.headers.authorization);
    a.writeHead(302, { Location: `${store}/file` }).end();
  });
  process.env.HF_TOKEN = 'secret-token';
  // The bytes are not those of the checksum: all that matters here is who was told the token.
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.checksum' });
  expect(new Set(own)).toEqual(new Set(['Bearer secret-token']));
  expect(new Set(seen)).toEqual(new Set([undefined]));
});

test('pages without end, an endless answer and a file beyond its size end in a sentence', async () => {
  let pages = 0;
  const url = await serve((q, a) =>
    q.url?.includes('/tree/')
      ? json(a, [], { Link: `<${url}/api/models/org/model/tree/${SHA}?page=${++pages}>; rel="next"` })
      : json(a, { _id: '1', id: 'org/model', sha: SHA, private: false }),
  );
  process.env.HF_ENDPOINT = url;
  await expect(hubModel('org/model', models, quick)).rejects.toThrow(/takes more than 1000 pages/);
  expect(pages).toBeLessThan(1100);

  process.env.HF_ENDPOINT = await serve((_, a) => {
    a.writeHead(200, { 'Content-Type': 'application/json' });
    const more = (): void => {
      while (!a.destroyed && a.write(Buffer.alloc(1 << 20, 32)));
      if (!a.destroyed) a.once('drain', more);
    };
    more();
  });
  await expect(hubModel('org/model', models, quick)).rejects.toThrow(/it has more than 16777216 bytes/);

  let sent = 0;
  process.env.HF_ENDPOINT = await hub(SHA, [fileOf()], (_, a) => {
    a.writeHead(200);
    const more = (): void => {
      sent += 1 << 16;
      if (!a.destroyed) a.write(Buffer.alloc(1 << 16), () => setImmediate(more));
    };
    more();
  });
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.size', exitCode: 3 });
  expect(sent).toBeLessThan(100e6);
  const blobs = everything(join(home, 'home')).filter((f) => /blobs./.test(f));
  expect(blobs).toEqual([]);
});

test('Retry-After is what is waited, and a wait of hours is a sentence', async () => {
  let asked = 0;
  process.env.HF_ENDPOINT = await serve((_, a) => {
    asked++;
    if (asked < 3) a.writeHead(429, { 'Retry-After': '1' }).end('{}');
    else a.writeHead(404, { 'Content-Type': 'application/json' }).end('{}');
  });
  const started = performance.now();
  await expect(hubModel('org/model', models, quick)).rejects.toMatchObject({ code: 'hub.not-found' });
  expect(performance.now() - started).toBeGreaterThan(1900);
  expect(asked).toBe(3);
  process.env.HF_ENDPOINT = await serve((_, a) => void a.writeHead(429, { 'Retry-After': '86400' }).end('{}'));
  await expect(hubModel('org/model', models, quick)).rejects.toThrow(/the hub failed over org\/model \(429\)/);
});

test('a hub that says nothing is given up once, and the command that ends ends the request', async () => {
  let connections = 0;
  const silent = await serve(() => {
    connections++;
  });
  const started = performance.now();
  await expect(request(silent, { silence: 1000 })).rejects.toMatchObject({
    cause: { code: 'UND_ERR_HEADERS_TIMEOUT' },
  });
  expect(performance.now() - started).toBeLessThan(4000);
  process.env.HF_ENDPOINT = silent;
  const stop = new AbortController();
  const asking = hubModel('org/model', models, { ...quick, signal: stop.signal });
  setTimeout(() => stop.abort(new Error('stopped by SIGTERM')), 100);
  await expect(asking).rejects.toThrow('stopped by SIGTERM');
  const end = new AbortController();
  endRequestsWith(end.signal);
  const unwatched = hubModel('org/model', models, quick);
  setTimeout(() => end.abort(new Error('the command ends')), 100);
  await expect(unwatched).rejects.toThrow('the command ends');
  endRequestsWith(new AbortController().signal);
  expect(connections).toBe(3);
});

test('requests go through the proxy of the environment, but for NO_PROXY', async () => {
  const through: string[] = [];
  const proxy = createPlainServer((socket: Socket) => {
    socket.once('data', (head) => {
      const [, host, port] = /^CONNECT ([^:]+):(\d+)/.exec(head.toString()) ?? [];
      through.push(`${host}:${port}`);
      const there = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        socket.pipe(there).pipe(socket);
      });
      there.on('error', () => socket.destroy());
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  const url = await serve((_, a) => void a.end('there'));
  process.env.HTTP_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const warnings: string[] = [];
  process.on('warning', (w) => warnings.push(w.message));
  // Other limits have agents of their own, made with the environment as it is then.
  expect(await (await request(url, { silence: 5001 })).text()).toBe('there');
  expect(through).toEqual([url.slice('http://'.length)]);
  process.env.NO_PROXY = '127.0.0.1';
  expect(await (await request(url, { silence: 5002 })).text()).toBe('there');
  expect(through).toHaveLength(1);
  expect(warnings).toEqual([]);
  proxy.close();
});

test('what was written stays in the cache of the hub', async () => {
  const { createHash } = await import('node:crypto');
  const bytes = Buffer.from('abcd');
  const oid = createHash('sha1').update('blob 4\0').update(bytes).digest('hex');
  process.env.HF_ENDPOINT = await hub(SHA, [fileOf({ oid })]);
  const at = await hubModel('org/model', models, quick);
  expect(readFileSync(join(at, 'model.onnx'), 'utf8')).toBe('abcd');
});
