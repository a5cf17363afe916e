/** @file Token vectors made compact: encodings within their steps, Ward's pooling as scipy merges, files that survive a kill. */
import { appendFileSync, mkdtempSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Random } from '../../../math/random.ts';
import { poolTokens, withoutTokens } from '../../../retrieval/multi-vector/compact.ts';
import { type TokenCodecName, tokenCodecs } from '../../../retrieval/multi-vector/token-codec.ts';
import { TokenFile } from '../../../retrieval/multi-vector/token-file.ts';

const D = 6;
function tokens(n: number, seed: number): Float32Array {
  const random = Random.of(seed, 'tokens');
  const out = new Float32Array(n * D);
  for (let i = 0; i < n; i++) {
    const row = Array.from({ length: D }, () => random.normal());
    const size = Math.hypot(...row);
    for (let k = 0; k < D; k++) out[i * D + k] = row[k] / size;
  }
  return out;
}

describe.each([
  ['float32', 24, 0],
  ['float16', 12, 5e-4],
  ['int8', 8, 1 / 254],
  ['int4', 5, 1 / 14],
] as const)('%s', (name: TokenCodecName, bytes, step) => {
  test(`takes ${bytes} bytes for ${D} numbers and is wrong by half a step at most`, () => {
    const codec = tokenCodecs[name];
    expect(codec.bytes(D)).toBe(bytes);
    const own = tokens(5, 1);
    own.fill(0, 0, D);
    const codes = new Uint8Array(5 * bytes);
    codec.encode(own, D, codes);
    const back = codec.decode(codes, D);
    for (let i = 0; i < 5; i++) {
      const row = own.subarray(i * D, (i + 1) * D);
      const largest = Math.max(...row.map(Math.abs));
      for (let k = 0; k < D; k++)
        expect(Math.abs(back[i * D + k] - row[k])).toBeLessThanOrEqual(step * largest * 1.01 + 1e-7);
    }
    expect([...back.subarray(0, D)]).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

test('int4 of odd widths keeps every number', () => {
  const codec = tokenCodecs.int4;
  expect(codec.bytes(3)).toBe(4);
  const codes = new Uint8Array(8);
  codec.encode(Float32Array.of(1, -1, 0.5, -0.25, 0, 1), 3, codes);
  expect([...codec.decode(codes, 3)].map((v) => Math.round(v * 7))).toEqual([7, -7, 4, -2, 0, 7]);
});

/** Points, and the clusters that scipy 1.17 makes: linkage(1 - cosine, 'ward'), fcluster(t=4, criterion='maxclust'). */
const angles = [0, 4, 90, 95, 200, 207, 300, 180];
const scipy = [
  {
    dimensions: 2,
    points: angles.flatMap((a) => [Math.cos((a * Math.PI) / 180), Math.sin((a * Math.PI) / 180)]),
    clusters: [1, 1, 3, 3, 4, 4, 2, 4],
  },
  {
    dimensions: 3,
    points: [
      0.619, -0.775, 0.127, -0.75, -0.598, -0.285, -0.914, -0.105, -0.392, 0.992, 0.067, -0.105, -0.22, -0.522, -0.824,
      -0.588, 0.725, -0.359, 0.979, -0.204, 0.025, 0.901, 0.318, -0.295, -0.091, 0.268, 0.959, -0.253, -0.228, 0.94,
      -0.69, -0.227, 0.687, 0.651, 0.103, 0.752,
    ],
    clusters: [1, 3, 3, 1, 3, 4, 1, 1, 2, 2, 2, 1],
  },
];

test.each(scipy)("pooling merges as scipy's hierarchy of Ward does", ({ dimensions, points, clusters }) => {
  // A protected token first, which stays as it is.
  const data = Float32Array.from([...points.slice(0, dimensions), ...points]);
  const pooled = poolTokens({ dimensions, data }, clusters.length / 4);
  const names = [...new Set(clusters)];
  expect(pooled.data.length / dimensions).toBe(1 + names.length);
  for (const [c, name] of names.entries())
    for (let k = 0; k < dimensions; k++) {
      const own = clusters.flatMap((n, i) => (n === name ? [points[i * dimensions + k]] : []));
      expect(pooled.data[dimensions * (c + 1) + k]).toBeCloseTo(own.reduce((x, y) => x + y) / own.length, 6);
    }
  expect(Array.from(pooled.data).slice(0, dimensions)).toEqual([...data.subarray(0, dimensions)]);
  expect(poolTokens({ dimensions, data: data.slice(0, dimensions) }, 4).data).toHaveLength(dimensions);
});

test('tokens of some ids are left out, and one is always kept', () => {
  const rows = { dimensions: 1, data: Float32Array.of(1, 2, 3) };
  expect([...(withoutTokens(rows, [7, 8, 7], new Set([7])).data as Float32Array)]).toEqual([2]);
  expect([...(withoutTokens(rows, [7, 7, 7], new Set([7])).data as Float32Array)]).toEqual([1]);
});

describe('a file', () => {
  const header = { codec: 'float16' as const, width: D, key: 'k' };
  test('is read by offset, appended to, and refuses another header', async () => {
    const folder = join(mkdtempSync(join(tmpdir(), 'tokens-')), 'a');
    const file = await TokenFile.append(folder, header);
    const texts = [tokens(3, 1), tokens(1, 2), tokens(4, 3)];
    file.add(texts.slice(0, 2));
    file.add(texts.slice(2));
    file.close();
    const again = await TokenFile.open(folder);
    expect([again.length, again.count(0), again.count(2), again.bytes]).toEqual([3, 3, 4, 8 * 2 * D]);
    for (const [i, t] of texts.entries()) for (const [k, v] of again.read(i).entries()) expect(v).toBeCloseTo(t[k], 3);
    expect(() => again.read(3)).toThrow('text 3 of 3');
    again.close();
    await expect(TokenFile.append(folder, { ...header, key: 'other' })).rejects.toThrow(
      /holds token vectors of another model, or in another form/,
    );
    await expect(TokenFile.open(join(folder, 'none'))).rejects.toThrow(/there is no tokens.json/);
  });

  test('what a kill left half written is cut off', async () => {
    const folder = join(mkdtempSync(join(tmpdir(), 'tokens-')), 'b');
    const file = await TokenFile.append(folder, header);
    file.add([tokens(3, 1), tokens(2, 2)]);
    file.close();
    // Codes without a count, then a count without its codes.
    appendFileSync(join(folder, 'tokens.bin'), new Uint8Array(7));
    const after = await TokenFile.append(folder, header);
    expect([after.length, after.bytes]).toEqual([2, 5 * 2 * D]);
    after.add([tokens(1, 3)]);
    after.close();
    truncateSync(join(folder, 'tokens.bin'), 5 * 2 * D + 3);
    const read = await TokenFile.open(folder);
    expect(read.length).toBe(2);
    read.close();
    const cut = await TokenFile.append(folder, header);
    cut.add([tokens(2, 4)]);
    expect([cut.length, cut.count(2)]).toEqual([3, 2]);
    expect(cut.read(2)[0]).toBeCloseTo(tokens(2, 4)[0], 3);
    cut.close();
  });
});
