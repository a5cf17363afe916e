/** @file What SECURITY.md promises of rights: no code of a stranger runs, no key changes a prototype, texts of a report stay texts. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { openBeir } from '../../data/beir.ts';
import { readRows } from '../../data/files/rows.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { parseSafetensors } from '../../engine/io/safetensors.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { distill, jsonl, makeWorld, write } from '../cli/world.ts';
import { refused } from './refused.ts';

let folder: string;
let world: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rights-'));
  world = await makeWorld();
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
  const run = () =>
    distill(
      'run',
      join(world, 'distill.yaml'),
      '--set',
      `student.model=${model}`,
      '--set',
      `output=${folder}/code`,
      '--set',
      `cache=${folder}/code-cache`,
    );
  // A module that is code is refused by its name; without it the folder trains, and no code of it runs.
  const refusal = await run();
  expect(refusal.code).toBe(2);
  expect(refusal.err).toContain('modeling_own.OwnModule');
  expect(existsSync(ran)).toBe(false);
  rmSync(join(model, 'modules.json'));
  expect((await run()).code).toBe(0);
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
    await refused(() => readConfig(join(folder, name)), /'(data\.)?__proto__' is not a known key|'data' is missing/);
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
