/** @file What SECURITY.md promises of files that come from strangers, each promise by itself. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, StringStringEntryProtoSchema, TensorProto_DataLocation } from 'onnx-buf';
import { beforeAll, describe, expect, test } from 'vitest';
import { InputError } from '../../common/errors.ts';
import { openBeir } from '../../data/beir.ts';
import { readLines } from '../../data/lines.ts';
import { readRows } from '../../data/rows.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { loadGraph, parseGraph } from '../../engine/graph/proto.ts';
import { parseSafetensors } from '../../engine/graph/safetensors.ts';
import { readConfig } from '../../pipelines/config-file.ts';
import { evaluate } from '../../pipelines/evaluate.ts';
import { Encoder } from '../../students/encoder.ts';
import { readModelFolder } from '../../students/folder.ts';
import { distill, jsonl, makeWorld, write } from '../cli/world.ts';

let folder: string;
let world: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'claims-'));
  world = await makeWorld();
});

const megabytes = () => process.memoryUsage().rss / 2 ** 20;

async function all(rows: AsyncIterable<unknown>): Promise<number> {
  let n = 0;
  for await (const _ of rows) n++;
  return n;
}

/** That work is refused by a message of ours, soon and in little memory. */
async function refused(work: () => unknown, message: RegExp, most = 200): Promise<void> {
  const [started, before] = [performance.now(), megabytes()];
  const error = await Promise.resolve()
    .then(work)
    .then(
      () => undefined,
      (e) => e,
    );
  expect(error).toBeInstanceOf(InputError);
  expect(error.message).toMatch(message);
  expect(performance.now() - started).toBeLessThan(5000);
  expect(megabytes() - before).toBeLessThan(most);
}

describe('no path in a file leads outside its folder', () => {
  /** The world's encoder with its weights in a file of that name. */
  function external(name: string, location: string, more: Record<string, string> = {}): string {
    const model = fromBinary(ModelProtoSchema, readFileSync(join(world, 'dual/onnx/model.onnx')));
    const weights = model.graph?.initializer.find((t) => t.rawData.length > 100);
    if (!weights) throw new Error('no weights');
    const bytes = weights.rawData;
    weights.rawData = new Uint8Array();
    weights.dataLocation = TensorProto_DataLocation.EXTERNAL;
    weights.externalData = Object.entries({ location, length: String(bytes.length), ...more }).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    );
    const at = join(folder, name);
    write(at, { 'inside/model.onnx': toBinary(ModelProtoSchema, model), 'inside/weights': bytes, weights: bytes });
    mkdirSync(join(at, 'inside', 'below'), { recursive: true });
    symlinkSync('../weights', join(at, 'inside', 'link'));
    return join(at, 'inside', 'model.onnx');
  }

  test('weights beside an ONNX file: read where they lie beside it', async () => {
    expect((await loadGraph(external('beside', 'weights'))).nodes.length).toBeGreaterThan(0);
  });

  test.each(['../weights', '/etc/hostname', 'below/../../weights', 'link', '..', '', '.', 'below', 'nothing'])(
    'weights of an ONNX file in %j',
    async (location) => {
      await refused(
        () => loadGraph(external(`external-${location.replace(/\W/g, '_')}`, location)),
        /which (leads outside its folder|is not a file|cannot be read)/,
      );
    },
  );

  test('config.json, modules.json and tokenizer files name no file that is opened', async () => {
    const model = join(folder, 'pointing');
    const outside = '../../secret';
    write(folder, { 'secret/config.json': '{"pooling_mode_cls_token":true}', 'secret/tokenizer.json': '{}' });
    write(model, {
      'onnx/model.onnx': readFileSync(join(world, 'dual/onnx/model.onnx')),
      'tokenizer.json': readFileSync(join(world, 'dual/tokenizer.json')),
      'tokenizer_config.json': JSON.stringify({
        ...JSON.parse(readFileSync(join(world, 'dual/tokenizer_config.json'), 'utf8')),
        tokenizer_file: outside,
        vocab_file: outside,
        name_or_path: outside,
      }),
      'config.json': JSON.stringify({ _name_or_path: outside, model_file: '/etc/passwd', max_position_embeddings: 64 }),
      'modules.json': JSON.stringify([{ idx: 0, path: outside, type: 'sentence_transformers.models.Pooling' }]),
    });
    expect((await readModelFolder(model)).pooling).toBe('mean');
    const encoder = await Encoder.load(model);
    expect((await encoder.encode(['open file'])).length).toBe(encoder.dimensions);
    await encoder.dispose();
  });

  test("a config's module stands below the config", async () => {
    writeFileSync(join(folder, 'outside.mjs'), 'globalThis.outsideRan = true; export default 1;');
    for (const module of ['../outside.mjs', '/etc/passwd', 'file:///etc/passwd', 'data:text/javascript,1', 'node:fs']) {
      const { code, err } = await distill(
        'run',
        join(world, 'distill.yaml'),
        '--set',
        `output=${folder}/m`,
        '--set',
        `losses=[{kind: module, module: '${module}'}]`,
      );
      expect(code).toBe(2);
      expect(err).toContain(`the module '${module}' of a loss`);
    }
    expect('outsideRan' in globalThis).toBe(false);
  });
});

describe("no size in a header is believed before the file's own", () => {
  const header = (json: string, claimed = Buffer.byteLength(json)): Uint8Array => {
    const out = Buffer.alloc(8 + Buffer.byteLength(json));
    out.writeBigUInt64LE(BigInt(claimed));
    out.write(json, 8);
    return out;
  };

  test.each([
    ['a longer header', header('{}', 2 ** 40), /its header claims/],
    [
      'a longer body',
      header('{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'),
      /claims bytes/,
    ],
    ['another size', header('{"a":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,0]}}'), /claims bytes/],
    [
      'a size beyond numbers',
      header('{"a":{"dtype":"F32","shape":[9007199254740991,9007199254740991],"data_offsets":[0,0]}}'),
      /claims bytes/,
    ],
    ['places that are no numbers', header('{"a":{"dtype":"F32","shape":[1],"data_offsets":["0",4]}}'), /claims bytes/],
  ])('safetensors: %s', async (_, bytes, message) => {
    await refused(() => parseSafetensors(bytes), message);
  });

  test('ONNX: a shape larger than its bytes, inside and in a file beside it', async () => {
    const model = fromBinary(ModelProtoSchema, readFileSync(join(world, 'dual/onnx/model.onnx')));
    const weights = model.graph?.initializer.find((t) => t.rawData.length > 100);
    if (!weights) throw new Error('no weights');
    weights.dims = [1_000_000n, 1_000_000n];
    const changed = toBinary(ModelProtoSchema, model);
    await refused(() => parseGraph(changed), /needs \d{13} bytes and has \d+/);
    weights.rawData = new Uint8Array();
    weights.dataLocation = TensorProto_DataLocation.EXTERNAL;
    const entry = (key: string, value: string) => create(StringStringEntryProtoSchema, { key, value });
    for (const [offset, length] of [
      ['0', '4000000000000'],
      ['-4', '8'],
      ['99999999999999999999', '4000000000000'],
      ['x', 'y'],
    ]) {
      weights.externalData = [entry('location', 'w'), entry('offset', offset), entry('length', length)];
      write(join(folder, 'claims'), { 'model.onnx': toBinary(ModelProtoSchema, model), w: new Uint8Array(64) });
      await refused(
        () => loadGraph(join(folder, 'claims', 'model.onnx')),
        /claims \d{13} bytes at \S+ of 'w', which has 64/,
      );
    }
  });

  test('Parquet: pages and groups that claim billions of values or bytes', async () => {
    const whole = readFileSync('test/fixtures/rows.parquet');
    const changed = (from: number, bytes: readonly number[]): Uint8Array => {
      // The claims are varints of one byte; longer ones take the place of what follows, which is not reached.
      const out = Buffer.from(whole);
      out.set(bytes, from);
      return out;
    };
    // A page header begins the file, behind PAR1: type, unpacked size, packed size.
    expect([...whole.subarray(0, 6)]).toEqual([...Buffer.from('PAR1'), 0x15, expect.any(Number)]);
    const huge = [0xfe, 0xff, 0xff, 0xff, 0x0f]; // 2,147,483,647
    const file = join(folder, 'claims.parquet');
    for (const at of [7, 8, 9, 10, 11, 12]) {
      writeFileSync(file, changed(at, huge));
      await refused(() => all(readRows(file)), /cannot read/);
    }
  });
});

describe('unpacking is bounded', () => {
  test('gzip: one endless line', async () => {
    const file = join(folder, 'line.jsonl.gz');
    writeFileSync(file, gzipSync(Buffer.alloc(150 * 2 ** 20, 'a')));
    await refused(() => all(readLines(file)), /unpacks to more than any data set holds/, 500);
  });

  test('gzip: lines without end', async () => {
    const file = join(folder, 'lines.jsonl.gz');
    const part = gzipSync(`${' '.repeat(2 ** 16 - 1)}\n`.repeat(2 ** 10)); // 64 MB in 64 kB
    writeFileSync(file, Buffer.concat(Array(40).fill(part)));
    await refused(() => all(readRows(file)), /unpacks to more than any data set holds/, 500);
  });

  test('gzip: text that packs well is read', async () => {
    const file = join(folder, 'well.jsonl.gz');
    writeFileSync(file, gzipSync('{"query":"a","positive":"b"}\n'.repeat(100_000)));
    expect(await all(readRows(file))).toBe(100_000);
  });
});

describe('YAML', () => {
  const laughs = [
    'a: &a [x,x,x,x,x,x,x,x,x]',
    ...'bcdefghij'.split('').map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]`),
  ].join('\n');

  test.each([
    ['aliases that unfold to billions', `${laughs}\n`],
    ['an alias of itself', 'data: &d { path: *d }\n'],
    ['a hundred thousand brackets', '['.repeat(100_000)],
    ['a hundred thousand maps', Array.from({ length: 5000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
    ['a tag that makes an object', 'data: !!js/function "function () { globalThis.yamlRan = true }"\n'],
    ['a binary tag', 'data: !!binary aGVsbG8=\n'],
  ])('%s', async (_, text) => {
    const file = join(folder, 'hostile.yaml');
    writeFileSync(file, text);
    await refused(
      () => readConfig(file),
      /hostile\.yaml|'data\.path\.path[^\n]* is nested deeper than any option; an alias/,
      400,
    );
    expect('yamlRan' in globalThis).toBe(false);
  });

  test('on the command line', async () => {
    const { code, err } = await distill('run', join(world, 'distill.yaml'), '--set', 'losses=[&a {kind: kl}, *a]');
    expect(code).toBe(2);
    expect(err).not.toContain('defect');
  });
});

test('no code of a model folder runs', async () => {
  const model = join(folder, 'with-code');
  const ran = join(folder, 'ran');
  const python = `open(${JSON.stringify(ran)}, 'w')`;
  const js = `require('fs').writeFileSync(${JSON.stringify(ran)}, '')`;
  write(model, {
    'onnx/model.onnx': readFileSync(join(world, 'dual/onnx/model.onnx')),
    'tokenizer.json': readFileSync(join(world, 'dual/tokenizer.json')),
    'tokenizer_config.json': JSON.stringify({
      ...JSON.parse(readFileSync(join(world, 'dual/tokenizer_config.json'), 'utf8')),
      auto_map: { AutoTokenizer: ['tokenization_own.OwnTokenizer', null] },
      tokenizer_class: 'OwnTokenizer',
    }),
    'config.json': JSON.stringify({
      auto_map: { AutoModel: 'modeling_own.OwnModel' },
      trust_remote_code: true,
      max_position_embeddings: 64,
    }),
    'modules.json': JSON.stringify([{ idx: 0, path: '', type: 'modeling_own.OwnModule' }]),
    'modeling_own.py': python,
    'tokenization_own.py': python,
    'modeling_own.js': js,
    'index.js': js,
    'package.json': JSON.stringify({ main: 'index.js', scripts: { postinstall: 'node index.js' } }),
  });
  const { code } = await distill(
    'run',
    join(world, 'distill.yaml'),
    '--set',
    `student.model=${model}`,
    '--set',
    `output=${folder}/code`,
    '--set',
    `cache=${folder}/code-cache`,
  );
  expect(code).toBe(0);
  expect(existsSync(ran)).toBe(false);
  // What is saved names no code either.
  expect(readFileSync(join(folder, 'code/checkpoint/modules.json'), 'utf8')).not.toContain('modeling_own');
});

test('a key of a file changes no prototype', async () => {
  const poison = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"prototype":{"polluted":1}';
  const data = join(folder, 'polluting');
  write(data, {
    'corpus.jsonl': `${poison},"_id":"__proto__","text":"a b"}\n${poison},"_id":"constructor","text":"c d"}\n`,
    'queries.jsonl': `${poison},"_id":"toString","text":"a"}\n`,
    'qrels/test.tsv': 'query-id\tcorpus-id\tscore\ntoString\t__proto__\t1\ntoString\tconstructor\t0\n',
  });
  const set = await openBeir(data);
  expect(set.documents.text(set.documents.indexOf('constructor') as number)).toBe('c d');
  expect(set.documents.indexOf('hasOwnProperty')).toBeUndefined();
  expect([...(set.qrels('test').get('toString') ?? [])]).toEqual([
    ['__proto__', 1],
    ['constructor', 0],
  ]);

  write(folder, {
    'p.jsonl': `${poison},"query":"a","positive":"b"}\n`,
    'p.csv': '__proto__,constructor,query,positive\npolluted,polluted,a,b\n',
    'p.tsv': 'query\tpositive\t__proto__\na\tb\tpolluted\n',
    'p.yaml': `__proto__: { polluted: 1 }\nconstructor: { prototype: { polluted: 1 } }\n`,
    'q.yaml': `data: { path: x, __proto__: { polluted: 1 } }\n`,
  });
  for (const name of ['p.jsonl', 'p.csv', 'p.tsv'])
    for await (const row of readRows(join(folder, name))) {
      expect(row.values.query).toBe('a');
      expect(row.values.positive).toBe('b');
      expect(Object.getPrototypeOf(row.values)).toBe(Object.prototype);
    }
  for (const name of ['p.yaml', 'q.yaml'])
    await refused(() => readConfig(join(folder, name)), /'(data\.)?__proto__' is no known key|'data' is missing/);
  for (const key of ['__proto__.polluted', 'constructor.prototype.polluted', 'train.__proto__.polluted'])
    for (const argv of [
      ['run', join(world, 'distill.yaml')],
      ['train-teacher', '--data', data, '--fresh'],
    ]) {
      const { code, err } = await distill(...argv, '--set', `${key}=1`);
      expect(code).toBe(2);
      expect(err).not.toContain('defect');
    }
  const header = Buffer.from(
    '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"constructor":{"dtype":"toString","shape":[],"data_offsets":[0,0]}}',
  );
  const bytes = Buffer.concat([Buffer.alloc(8), header, Buffer.alloc(4)]);
  bytes.writeBigUInt64LE(BigInt(header.length));
  await refused(() => parseSafetensors(bytes), /tensor 'constructor' has no known type/);

  const model = join(folder, 'polluting-model');
  const json = (file: string): string =>
    `${poison},${readFileSync(join(world, 'dual', file), 'utf8')
      .trim()
      .slice(1)}`;
  write(model, {
    'onnx/model.onnx': readFileSync(join(world, 'dual/onnx/model.onnx')),
    'tokenizer.json': json('tokenizer.json'),
    'tokenizer_config.json': json('tokenizer_config.json'),
    'config.json': json('config.json'),
  });
  expect((await TextTokenizer.load(model)).encode('open file').ids.length).toBeGreaterThan(2);
  await readModelFolder(model);
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
});

test('a report escapes every text: ids, texts, titles, names of files', async () => {
  const bad = `"><script>alert(1)</script><img src=x onerror=alert(1)>'&\u0000]]>--></style>`;
  const data = join(folder, 'markup <b>&');
  const n = 6;
  write(data, {
    'corpus.jsonl': jsonl(
      Array.from({ length: n }, (_, i) => ({ _id: `${bad}d${i}`, title: bad, text: `open file ${i} ${bad}` })),
    ),
    'queries.jsonl': jsonl(
      Array.from({ length: n }, (_, i) => ({ _id: `${bad}q${i}`, text: `file ${(i * 5) % n} ${bad}` })),
    ),
    'qrels/test.tsv': `query-id\tcorpus-id\tscore\n${Array.from({ length: n }, (_, i) => `${bad}q${i}\t${bad}d${i}\t1\n`).join('')}`,
  });
  const scores = Array.from({ length: n * n }, (_, k) => [Math.floor(k / n), k % n]).map(
    ([q, d]) => `${bad}q${q}\t${bad}d${d}\t${q === d ? 5 : -d}\n`,
  );
  write(data, { 'teacher-scores.tsv': scores.join('') });
  const html = join(folder, 'report.html');
  await evaluate({
    student: join(world, 'dual'),
    teacher: join(data, 'teacher-scores.tsv'),
    data,
    cache: join(folder, 'cache'),
    cost: false,
    samples: 20,
    html,
  });
  const page = readFileSync(html, 'utf8');
  // Ids and texts of documents and queries stand where student and teacher disagree.
  expect(page.split('&lt;script&gt;alert(1)&lt;/script&gt;').length).toBeGreaterThan(10);
  expect(page.includes("default-src 'none'")).toBe(true);
  expect(/<script|<img/i.exec(page)).toBeNull();
  expect(page.includes('Evaluation on markup &lt;b&gt;&amp;')).toBe(true);
  expect(page.includes('\u0000')).toBe(false);
  // Outside of quoted attributes, nothing that would run.
  expect(/<[^>]*\son\w+=/i.exec(page.replace(/"[^"]*"/g, '""'))).toBeNull();
});
