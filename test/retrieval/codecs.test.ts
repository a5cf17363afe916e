/** @file Every encoding of vectors is held to the same shape; the anisotropic loss by hand. */
import { describe, expect, test } from 'vitest';
import { floatToHalf, halfToFloat } from '../../math/half.ts';
import { effectiveDimensions, momentsOf } from '../../math/moments.ts';
import { Random } from '../../math/random.ts';
import { anisotropicLoss, anisotropy, assign, refit, thresholdOf } from '../../retrieval/codecs/anisotropic.ts';
import { type CodecName, codecs } from '../../retrieval/codecs/index.ts';
import { place } from '../../retrieval/codecs/kernel.ts';
import { product } from '../../retrieval/codecs/product.ts';

const random = Random.of(5, 'codecs');
const [n, dimensions] = [600, 96];
/** Unit vectors in clusters, as embeddings are. */
const centres = Array.from({ length: 12 }, () => Array.from({ length: dimensions }, () => random.normal()));
const unit = (rows: number, noise = 0.7): Float32Array => {
  const out = new Float32Array(rows * dimensions);
  for (let i = 0; i < rows; i++) {
    const centre = centres[random.integer(centres.length)];
    const row = centre.map((c) => c + noise * random.normal());
    const norm = Math.hypot(...row);
    for (let k = 0; k < dimensions; k++) out[i * dimensions + k] = row[k] / norm;
  }
  return out;
};
const vectors = { data: unit(n), dimensions };
const queries = unit(20);
/** Largest error of a score, and the least share of the exact ten among the first fifty. */
const bounds: Record<CodecName, [error: number, found: number]> = {
  binary: [Number.POSITIVE_INFINITY, 0.9],
  float16: [1e-3, 1],
  float32: [1e-6, 1],
  int4: [0.05, 1],
  int8: [5e-3, 1],
  pq16: [0.5, 0.9],
  pq32: [0.4, 0.95],
  pq48: [0.3, 0.95],
};

describe.each(Object.keys(codecs) as CodecName[])('%s', (name) => {
  const codec = codecs[name];
  const learned = codec.learn(vectors, 0);
  const codes = codec.encode(vectors, learned);
  const scores = (q: number): Float32Array => {
    const out = new Float32Array(n);
    codec.scorer(queries.subarray(q * dimensions, (q + 1) * dimensions), learned)(codes, 0, n, out);
    return out;
  };
  test('takes the bytes it says, the same at every run', () => {
    expect(codes.length).toBe(n * codec.bytes(dimensions));
    expect(Buffer.from(codec.encode(vectors, codec.learn(vectors, 0))).equals(Buffer.from(codes))).toBe(true);
  });
  test('scores are near the exact ones, and the exact ten are among the first fifty', () => {
    const [error, found] = bounds[name];
    let [worst, hits] = [0, 0];
    for (let q = 0; q < 20; q++) {
      const own = scores(q);
      const exact = Float32Array.from({ length: n }, (_, i) => {
        let s = 0;
        for (let k = 0; k < dimensions; k++) s += queries[q * dimensions + k] * vectors.data[i * dimensions + k];
        return s;
      });
      for (let i = 0; i < n; i++) worst = Math.max(worst, Math.abs(own[i] - exact[i]));
      const first = (x: Float32Array, k: number) =>
        Array.from(x.keys())
          .sort((a, b) => x[b] - x[a])
          .slice(0, k);
      const fifty = new Set(first(own, 50));
      hits += first(exact, 10).filter((i) => fifty.has(i)).length / 200;
    }
    expect(worst).toBeLessThan(error);
    expect(hits).toBeGreaterThanOrEqual(found);
  });
  test('a part of the codes scores as the whole does', () => {
    const part = new Float32Array(7);
    codec.scorer(queries.subarray(0, dimensions), learned)(codes, 100, 107, part);
    expect([...part]).toEqual([...scores(0).subarray(100, 107)]);
  });
  test('the kernel scores as the plain loop does, also where queries take turns and only a part is read', () => {
    const there = place(codes);
    expect(there.buffer).not.toBe(codes.buffer);
    expect(Buffer.from(there).equals(Buffer.from(codes))).toBe(true);
    const scan = (q: number) => codec.scorer(queries.subarray(q * dimensions, (q + 1) * dimensions), learned);
    const both = [0, 1].map((q) => ({ scan: scan(q), plain: scores(q), out: new Float32Array(n) }));
    for (const [from, to] of [
      [0, 300],
      [300, n],
      [n - 1, n],
    ])
      for (const { scan, out, plain } of both) {
        scan(there, from, to, out.subarray(from));
        for (let i = from; i < to; i++) expect(Math.abs(out[i] - plain[i])).toBeLessThan(1e-4);
      }
  });
  test('vectors of zeros have finite scores', () => {
    const zeros = codec.encode({ data: new Float32Array(2 * dimensions), dimensions }, learned);
    const out = new Float32Array(2);
    codec.scorer(queries.subarray(0, dimensions), learned)(zeros, 0, 2, out);
    expect(out.every(Number.isFinite)).toBe(true);
  });
});

test('rows of more than one call, and of a width that no kernel has', () => {
  const wide = Float32Array.from({ length: 20_000 * 16 }, () => random.normal());
  const query = Float32Array.from({ length: 16 }, () => random.normal());
  for (const name of ['float32', 'float16', 'int8', 'binary'] as const) {
    const codes = codecs[name].encode({ data: wide, dimensions: 16 }, {});
    const scan = codecs[name].scorer(query, {});
    const [plain, own] = [new Float32Array(20_000), new Float32Array(20_000)];
    scan(codes, 0, 20_000, plain);
    scan(place(codes), 0, 20_000, own);
    expect(own.every((s, i) => Math.abs(s - plain[i]) < 1e-3)).toBe(true);
    const odd = codecs[name].encode({ data: wide.subarray(0, 7 * 100), dimensions: 7 }, {});
    const [a, b] = [new Float32Array(100), new Float32Array(100)];
    codecs[name].scorer(query.subarray(0, 7), {})(odd, 0, 100, a);
    codecs[name].scorer(query.subarray(0, 7), {})(place(odd), 0, 100, b);
    expect([...b]).toEqual([...a]);
  }
});

test('every half survives the way to a float and back', () => {
  for (let bits = 0; bits < 1 << 16; bits++) {
    const value = halfToFloat(bits);
    if (Number.isFinite(value)) expect(floatToHalf(value)).toBe(bits);
  }
});

describe('the anisotropic loss', () => {
  test('by hand', () => {
    expect(anisotropicLoss([1, 0], [0.8, 0.3], 4)).toBeCloseTo(0.25, 12);
    expect(anisotropicLoss([1, 0], [0.8, 0.3], 1)).toBeCloseTo(0.13, 12);
    expect(anisotropy(100, 0.2)).toBeCloseTo(4.125, 6);
    expect(anisotropy(128, 0.2)).toBeCloseTo(5.2917, 4);
    expect(anisotropy(384)).toBeCloseTo(3, 1);
    expect(thresholdOf(100, 4.125)).toBeCloseTo(0.2, 6);
  });
  const codec = product(16);
  /** Spread over more dimensions than the clusters are, so that errors along them count more than others. */
  const vectors = { data: unit(n, 3), dimensions };
  const learned = codec.learn(vectors, 0);
  const width = dimensions / 16;
  const turned = {
    dimensions,
    data: Float32Array.from({ length: n * dimensions }, (_, at) => {
      const [i, b] = [Math.floor(at / dimensions), at % dimensions];
      let s = 0;
      for (let a = 0; a < dimensions; a++) s += vectors.data[i * dimensions + a] * learned.rotation[a * dimensions + b];
      return s;
    }),
  };
  const decode = (codes: Uint8Array, centroids: Float32Array, i: number) =>
    Float32Array.from({ length: dimensions }, (_, k) => {
      const j = Math.floor(k / width);
      return centroids[(j * 256 + codes[i * 16 + j]) * width + (k % width)];
    });
  const lossOf = (codes: Uint8Array, centroids: Float32Array, eta: number): number => {
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const x = turned.data.subarray(i * dimensions, (i + 1) * dimensions);
      sum += anisotropicLoss(x, decode(codes, centroids, i), eta);
    }
    return sum;
  };
  const eta = anisotropy(dimensions, learned.threshold[0]);

  test('codes have less of it than the nearest centroids of each part', () => {
    const { centroids } = learned;
    const plain = assign(turned, centroids, 16, eta, { sweeps: 0 });
    expect(lossOf(codec.encode(vectors, learned), centroids, eta)).toBeLessThan(lossOf(plain, centroids, eta));
  });

  test('centroids that are fitted to codes have the least of it', () => {
    const codes = assign(turned, learned.centroids, 16, eta, { sweeps: 1 });
    const moved = learned.centroids.map((x) => x + 0.05 * random.normal());
    // Part after part, given the others: rounds come to the minimum.
    let fitted = refit(turned, codes, moved, 16, eta);
    for (let round = 0; round < 10; round++) {
      const next = refit(turned, codes, fitted, 16, eta);
      expect(lossOf(codes, next, eta)).toBeLessThanOrEqual(lossOf(codes, fitted, eta) * (1 + 1e-6));
      fitted = next;
    }
    const least = lossOf(codes, fitted, eta);
    expect(least).toBeLessThan(lossOf(codes, moved, eta));
    for (let c = 0; c < 8; c++) {
      const [j, k] = [2 * c, c % width];
      for (const step of [-0.05, 0.05]) {
        const other = fitted.slice();
        other[(j * 256 + codes[c * 16 + j]) * width + k] += step;
        expect(lossOf(codes, other, eta)).toBeGreaterThan(least);
      }
    }
    const unused = Array.from({ length: 256 }, (_, c) => c).find((c) => !codes.some((x, at) => !(at % 16) && x === c));
    if (unused !== undefined) {
      const own = (x: Float32Array) => [...x.subarray(unused * width, (unused + 1) * width)];
      expect(own(fitted)).toEqual(own(moved));
    }
  });

  test('errors across a vector count over the dimensions that the vectors use', () => {
    const used = effectiveDimensions(momentsOf(vectors));
    expect(used).toBeGreaterThan(dimensions / 2);
    expect(used).toBeLessThan(dimensions);
    expect(anisotropy(dimensions, learned.threshold[0])).toBeCloseTo(((used - 1) * 0.04) / 0.96, 4);
    // Few dimensions: the plain loss, and not one that counts the error along a vector less.
    const few = vectors.data.map((x, at) => (at % dimensions < 4 ? x : 0));
    expect(anisotropy(dimensions, codec.learn({ data: few, dimensions }, 0).threshold[0])).toBeCloseTo(1, 5);
  });

  test('codes of an index that was written before the threshold was kept are made as then', () => {
    // Above 128 dimensions, where that threshold is not 0.2; no rotation, and centroids of noise.
    const wide = { dimensions: 192, data: vectors.data.subarray(0, 192 * 40) };
    const rotation = Float32Array.from({ length: 192 ** 2 }, (_, at) => Number(at % 193 === 0));
    const centroids = Float32Array.from({ length: 256 * 192 }, () => 0.1 * random.normal());
    const then = assign(wide, centroids, 16, anisotropy(192), { sweeps: 2 });
    expect([...codec.encode(wide, { rotation, centroids })]).toEqual([...then]);
    const now = codec.encode(wide, { rotation, centroids, threshold: Float32Array.of(0.2) });
    expect([...now]).not.toEqual([...then]);
  });

  test('the rotation keeps lengths, and the parts hold the same product of variances', () => {
    for (const i of [0, 7, 100]) {
      const [a, b] = [vectors, turned].map((v) => Math.hypot(...v.data.subarray(i * dimensions, (i + 1) * dimensions)));
      expect(a).toBeCloseTo(b, 5);
    }
    const logs = Array.from({ length: 16 }, (_, j) => {
      let sum = 0;
      for (let k = j * width; k < (j + 1) * width; k++) {
        let square = 0;
        for (let i = 0; i < n; i++) square += turned.data[i * dimensions + k] ** 2 / n;
        sum += Math.log(square);
      }
      return sum;
    });
    expect(Math.max(...logs) - Math.min(...logs)).toBeLessThan(2);
  });
});
