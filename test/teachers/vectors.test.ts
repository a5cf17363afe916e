/** @file Vectors made elsewhere: every kind of file, ids matched, and a query tower trained into them from end to end. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { type VectorsOptions, vectorsEmbedder } from '../../teachers/vectors/vectors-embedder.ts';
import { distill, documents, makeWorld, tinyConfig, write } from '../cli/world.ts';
import { embeddingOf, type Service, startService } from './service.ts';

const dir = mkdtempSync(join(tmpdir(), 'vectors-'));
const file = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
};
/** As numpy.save writes it. */
function npy(descr: string, shape: number[], bytes: Uint8Array, order = 'False'): Buffer {
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }`;
  const header = `${text.padEnd(117)}\n`;
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(header.length, 8);
  return Buffer.concat([head, Buffer.from(header, 'latin1'), bytes]);
}
const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
const three = [0.5, -1, 2, 0.25, 8, -0.125];
const f32 = bytesOf(Float32Array.from(three));
const ids = ['b', 'a', 'c'];
const asked = { length: 3, ids: ['a', 'b', 'c'], text: () => '' };
const wanted = [2, 0.25, 0.5, -1, 8, -0.125];
const read = async (options: VectorsOptions, notes: string[] = []): Promise<number[]> => {
  const { data } = await (await vectorsEmbedder(options)).embed(asked, 'document', {
    onProgress: (p) => p.note && notes.push(p.note),
  });
  return [...data];
};
const half = (x: number): number => {
  const [bits] = new Uint32Array(new Float32Array([x]).buffer);
  return x === 0 ? 0 : ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 255) - 112) << 10) | ((bits >>> 13) & 1023);
};

describe('files', () => {
  test.each<[string, Uint8Array]>([
    ['<f4', f32],
    ['>f4', Uint8Array.from(f32, (_, i) => f32[i - (i % 4) + 3 - (i % 4)])],
    ['<f8', bytesOf(Float64Array.from(three))],
    ['<f2', bytesOf(Uint16Array.from(three, half))],
  ])('.npy of %s with ids next to it', async (descr, bytes) => {
    const name = `k${descr.replace(/\W/g, descr[0] === '>' ? 'big' : '')}`;
    file(`${name}.ids.txt`, `${ids.join('\n')}\n`);
    expect(await read({ files: file(`${name}.npy`, npy(descr, [3, 2], bytes)) })).toEqual(wanted);
  });
  test('.npy of int8, ids as JSON named in the options', async () => {
    const list = file('numbers.json', JSON.stringify(['b', 'a', 'c']));
    const vectors = file('i1.npy', npy('|i1', [3, 2], Uint8Array.from([1, 255, 2, 3, 4, 128])));
    expect(await read({ files: vectors, ids: list })).toEqual([2, 3, 1, -1, 4, -128]);
  });
  test('.jsonl, several files, ids that are numbers, and what belongs to no document', async () => {
    const first = file('one.jsonl', `{"id":"b","vector":[0.5,-1]}\n{"id":7,"vector":[1,1]}\n`);
    const second = file('two.jsonl', `{"id":"a","vector":[2,0.25]}\n{"id":"c","vector":[8,-0.125]}\n`);
    const notes: string[] = [];
    expect(await read({ files: [first, second] }, notes)).toEqual(wanted);
    expect(notes).toEqual(['1 of 4 vectors belong to no document of the data and are left out']);
  });
  test('.safetensors', async () => {
    file('s.ids.json', JSON.stringify(ids));
    const tensor = { dtype: 'float32' as const, dims: [3, 2], data: Float32Array.from(three) };
    expect(await read({ files: file('s.safetensors', encodeSafetensors(new Map([['embeddings', tensor]]))) })).toEqual(
      wanted,
    );
  });
  test('without ids the order of the documents is taken, and said', async () => {
    const alone = mkdtempSync(join(tmpdir(), 'alone-'));
    writeFileSync(join(alone, 'x.npy'), npy('<f4', [3, 2], f32));
    const notes: string[] = [];
    expect(await read({ files: join(alone, 'x.npy') }, notes)).toEqual(three);
    expect(notes[0]).toMatch(/has no ids: its vectors are taken to be in the order of the documents/);
    writeFileSync(join(alone, 'y.npy'), npy('<f4', [2, 3], f32));
    await expect(read({ files: join(alone, 'y.npy') })).rejects.toThrow(/2 vectors cannot be matched with 3 documents/);
  });
});

describe('refused in one sentence', () => {
  const lines = (...rows: object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
  const own = { id: 'a', vector: [1, 2] };
  test.each<[string, string, string | Uint8Array, RegExp]>([
    ['missing ids', 'm.jsonl', lines(own), /2 of 3 documents have no vector in .*, the first being 'b'/],
    ['an id twice', 'd.jsonl', lines(own, own), /the id 'a' has two vectors/],
    ['another width', 'w.jsonl', lines(own, { id: 'b', vector: [1] }), /line 2: 'vector' has 1 components: expected 2/],
    ['1e39', 'e.jsonl', '{"id":"a","vector":[1e39,1]}\n', /the vector of 'a' .* not finite as float32/],
    ['null', 'n.jsonl', '{"id":"a","vector":[null,1]}\n', /line 1: 'vector': expected a list of numbers/],
    ['no vectors', 'c.jsonl', '{"id":"a","text":"x"}\n', /has the columns id, text: expected an id/],
    ['NaN', 'nan.npy', npy('<f4', [3, 2], bytesOf(Float32Array.of(1, 2, Number.NaN, 1, 1, 1))), /not finite/],
    ['text', 't.npy', npy('<U5', [3], new Uint8Array(60)), /of the kind '<U5'/],
    ['one dimension', 'o.npy', npy('<f4', [6], f32), /shape \(6\), not \[documents, dimensions\]/],
    ['Fortran order', 'f.npy', npy('<f4', [3, 2], f32, 'True'), /Fortran order; save numpy.ascontiguousarray/],
    ['bytes that are not there', 's.npy', npy('<f4', [9999999, 2], f32), /claims 9999999 x 2 numbers/],
    ['another file', 'x.npy', 'hello, world, this is text', /is not a .npy file/],
    ['another ending', 'x.pkl', 'x', /is not a known file of vectors: expected a name that ends in \.npy/],
  ])('%s', async (_, name, content, message) => {
    const own = mkdtempSync(join(tmpdir(), 'refused-'));
    writeFileSync(join(own, name), content);
    await expect(read({ files: join(own, name) })).rejects.toThrow(message);
  });
  test('a file that is not there, ids of another count, queries that nobody embedded', async () => {
    await expect(read({ files: join(dir, 'none.npy') })).rejects.toThrow('there is no file of vectors');
    const vectors = file('short.npy', npy('<f4', [3, 2], f32));
    await expect(read({ files: vectors, ids: file('short.txt', 'a\nb\n') })).rejects.toThrow(
      /has 2 ids and .* has 3 vectors/,
    );
    const embedder = await vectorsEmbedder({ files: vectors });
    await expect(embedder.embed(asked, 'query')).rejects.toThrow(/name them under 'embedder.queries.files'/);
    await expect(embedder.embed(['a text'], 'document')).rejects.toThrow(/texts without ids/);
  });
});

describe('a query tower over documents embedded elsewhere', () => {
  let world: string;
  let service: Service;
  beforeAll(async () => {
    world = await makeWorld();
    service = await startService();
    const rows = documents.map((d) => ({ id: d._id, embedding: embeddingOf(d.text) }));
    write(world, { 'vectors.jsonl': rows.map((r) => `${JSON.stringify(r)}\n`).join('') });
    return () => service.close();
  });
  const config = (name: string, more: object): string => {
    const { embedder: _, teacher: __, losses: ___, ...rest } = tinyConfig as Record<string, unknown>;
    const inside = { data: { path: join(world, 'data') }, student: { model: join(world, 'dual') } };
    const own = { output: join(world, `out-${name}`), cache: join(world, `cache-${name}`) };
    write(world, {
      [`${name}.yaml`]: stringify({ ...rest, ...inside, ...own, pipeline: 'inherit-documents', ...more }),
    });
    return join(world, `${name}.yaml`);
  };

  test('vectors in a file: labels alone teach; the saved tower searches them', async () => {
    const file = config('vectors', {
      embedder: { kind: 'vectors', files: 'vectors.jsonl' },
      export: { dtype: ['int8'] },
    });
    const { code, err, out } = await distill('run', file, '--json');
    expect(code, err).toBe(0);
    const report = JSON.parse(out) as {
      checkpoint: string;
      systems: { name: string; metrics: Record<string, number> }[];
    };
    const own = report.systems.find((s) => s.name === 'student')?.metrics['ndcg@10'];
    const evaluate = ['evaluate', '--student', report.checkpoint, '--data', join(world, 'data'), '--json'];
    const refused = await distill(...evaluate, join(world, 'e.json'));
    expect(refused.code).toBe(2);
    expect(refused.err).toMatch(
      /is a query tower, and the documents that it searches were embedded by a service or come from files/,
    );
    const given = await distill(...evaluate, join(world, 'e.json'), '--documents', join(world, 'vectors.jsonl'));
    expect(given.code, given.err).toBe(0);
    const { readFileSync } = await import('node:fs');
    expect(JSON.parse(readFileSync(join(world, 'e.json'), 'utf8'))['ndcg@10']).toBeCloseTo(own as number, 6);
    const again = await distill('run', file, '--dry-run', '--json');
    expect((JSON.parse(again.out) as { status: string }[]).every((s) => s.status !== 'made')).toBe(true);
  });

  test('a loss that needs vectors of queries says so before anything is done', async () => {
    const file = config('needs', {
      embedder: { kind: 'vectors', files: 'vectors.jsonl' },
      losses: [{ kind: 'embedding-matching' }],
    });
    const { code, err } = await distill('run', file);
    expect(code).toBe(2);
    expect(err).toMatch(/a loss matches embeddings of queries and 'embedder.files' holds those of documents/);
  });

  test('a service as embedder and teacher; the key is nowhere on disk', async () => {
    process.env.SERVICE_KEY = 'sk-never-on-disk';
    const http = { kind: 'http', url: service.url, keyVariable: 'SERVICE_KEY' };
    const file = config('service', {
      teacher: { ...http, format: 'cohere', model: 'rerank' },
      embedder: { ...http, format: 'openai-embeddings', model: 'embed' },
    });
    const { code, err } = await distill('run', file);
    expect(code, err).toBe(0);
    const { readdirSync, readFileSync } = await import('node:fs');
    for (const folder of ['out-service', 'cache-service'])
      for (const e of readdirSync(join(world, folder), { recursive: true, withFileTypes: true }))
        if (e.isFile()) expect(readFileSync(join(e.parentPath, e.name)).includes('sk-never-on-disk')).toBe(false);
    expect(service.calls.every((c) => c.auth === 'Bearer sk-never-on-disk')).toBe(true);
    const asked = service.calls.length;
    const again = await distill('run', file, '--set', `output=${join(world, 'out-service-2')}`);
    expect(again.code, again.err).toBe(0);
    expect(service.calls.length).toBe(asked);
  });
});
