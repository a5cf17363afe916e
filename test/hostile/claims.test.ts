/** @file What SECURITY.md promises of files that come from strangers, each promise by itself. */
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, StringStringEntryProtoSchema, TensorProto_DataLocation } from 'onnx-buf';
import { beforeAll, describe, expect, test } from 'vitest';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { readLines } from '../../data/files/lines.ts';
import { readRows } from '../../data/files/rows.ts';
import { loadGraph, parseGraph } from '../../engine/io/onnx-file.ts';
import { parseSafetensors } from '../../engine/io/safetensors.ts';
import { Encoder } from '../../models/encoder.ts';
import { distill, makeWorld, write } from '../cli/world.ts';
import { refused } from './refused.ts';

let folder: string;
let world: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'claims-'));
  world = await makeWorld();
});

async function all(rows: AsyncIterable<unknown>): Promise<number> {
  let n = 0;
  for await (const _ of rows) n++;
  return n;
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

  test('external weights of an ONNX file: read if they are in its folder', async () => {
    expect((await loadGraph(external('within', 'weights'))).nodes.length).toBeGreaterThan(0);
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
    await expect(Encoder.load(model)).rejects.toThrow(`the module '${outside}' is outside the folder`);
    const transformer = { idx: 0, path: '', type: 'sentence_transformers.models.Transformer' };
    const pooling = { idx: 1, path: outside, type: 'sentence_transformers.models.Pooling' };
    writeFileSync(join(model, 'modules.json'), JSON.stringify([transformer, pooling]));
    await expect(Encoder.load(model)).rejects.toThrow(`the module '${outside}' is outside the folder`);
  });

  test("a config's module must be below the config", async () => {
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
    [
      'offsets that are not numbers',
      header('{"a":{"dtype":"F32","shape":[1],"data_offsets":["0",4]}}'),
      /claims bytes/,
    ],
  ])('safetensors: %s', async (_, bytes, message) => {
    await refused(() => parseSafetensors(bytes), message);
  });

  test('ONNX: a shape larger than its bytes, in the file and in an external one', async () => {
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
