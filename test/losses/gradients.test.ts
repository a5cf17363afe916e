/** @file Gradients in closed form, written out here in plain arithmetic, against what differentiation finds. */
import { describe, expect, test } from 'vitest';
import { losses, matryoshka } from '../../losses/index.ts';
import { Random } from '../../math/random.ts';

type Matrix = number[][];
const random = Random.of(31);
const matrix = (rows: number, columns: number): Matrix =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, () => random.normal()));
const dot = (a: number[], b: number[]): number => a.reduce((s, v, i) => s + v * b[i], 0);
const norm = (a: number[]): number => Math.sqrt(dot(a, a));
const unit = (a: number[]): number[] => a.map((v) => v / norm(a));
const softmax = (x: number[], t = 1): number[] => {
  const e = x.map((v) => Math.exp((v - Math.max(...x)) / t));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
};
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const times = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((s, v, k) => s + v * b[k][j], 0)));
const transpose = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));
const near = (found: ArrayLike<number> | undefined, expected: number[] | Matrix, digits = 9): void => {
  const flat = expected.flat();
  expect(found?.length).toBe(flat.length);
  for (const [i, e] of flat.entries()) expect(found?.[i]).toBeCloseTo(e, digits);
};
/** d of a vector's norm's division, given d of the unit vector. */
const throughNormalisation = (e: number[], dUnit: number[]): number[] => {
  const u = unit(e);
  const along = dot(u, dUnit);
  return dUnit.map((g, k) => (g - u[k] * along) / norm(e));
};

const [B, N] = [3, 5];
const s = matrix(B, N);
const t = matrix(B, N).map((row) => row.map((v) => 3 * v));
const perList = (f: (s: number[], t: number[]) => number[]): Matrix =>
  s.map((row, b) => f(row, t[b]).map((g) => g / B));

describe('of scores', () => {
  test('MarginMSE', async () => {
    const { gradients } = await losses['margin-mse']({ scale: 1 }).evaluate({ student: s, teacher: t });
    near(
      gradients.student,
      perList((s, t) => {
        const K = N - 1;
        const delta = s.slice(1).map((v, k) => s[0] - v - (t[0] - t[k + 1]));
        return [(2 / K) * delta.reduce((a, b) => a + b, 0), ...delta.map((d) => (-2 * d) / K)];
      }),
    );
  });

  test('M3SE', async () => {
    const { gradients } = await losses.m3se({ scale: 1 }).evaluate({ student: s, teacher: t });
    near(
      gradients.student,
      perList((s, t) => {
        const hardest = t.indexOf(Math.max(...t.slice(1)), 1);
        const delta = s[0] - s[hardest] - (t[0] - t[hardest]);
        const above = s.map((v, k) => (k ? Math.max(0, v - s[hardest]) : 0));
        const g = above.map((h) => 2 * h);
        g[0] = 2 * delta;
        g[hardest] = -2 * delta - 2 * above.reduce((a, b) => a + b, 0);
        return g;
      }),
    );
  });

  test.each([1, 2.5])('KL at temperature %d', async (T) => {
    const { gradients } = await losses
      .kl({ temperature: T, studentTemperature: T })
      .evaluate({ student: s, teacher: t });
    near(
      gradients.student,
      perList((s, t) => softmax(s, T).map((q, i) => T * (q - softmax(t, T)[i]))),
    );
  });

  test('MSE', async () => {
    const { gradients } = await losses.mse({ scale: 1, shift: 0 }).evaluate({ student: s, teacher: t });
    near(
      gradients.student,
      perList((s, t) => s.map((v, i) => (2 * (v - t[i])) / N)),
    );
  });

  test('pointwise cross-entropy, which does not sum to 0', async () => {
    const { gradients } = await losses.bce({ scale: 1, shift: 0 }).evaluate({ student: s, teacher: t });
    const expected = perList((s, t) => s.map((v, i) => (sigmoid(v) - sigmoid(t[i])) / N));
    near(gradients.student, expected);
    expect(Math.abs(expected[0].reduce((a, b) => a + b, 0))).toBeGreaterThan(1e-3);
  });

  test('scaled and shifted scores replace scores, as cosines need where the teacher gives logits', async () => {
    const moved = s.map((list) => list.map((v) => 20 * v - 10));
    const reliability = s.map((list) => list.map(() => 0.8));
    for (const make of [losses.mse, losses.bce, losses.slam]) {
      const plain = await make({ scale: 1, shift: 0 }).evaluate({ student: moved, teacher: t, reliability });
      const { loss, gradients } = await make().evaluate({
        student: s,
        teacher: t,
        reliability,
      });
      expect(loss).toBeCloseTo(plain.loss, 4);
      near(
        gradients.student,
        Array.from(plain.gradients.student ?? [], (v) => 20 * v),
      );
    }
  });

  test.each([N, 2])('RankDistil, first %d places', async (topK) => {
    const { gradients } = await losses['rank-distil']({ topK, temperature: 1 }).evaluate({ student: s, teacher: t });
    near(
      gradients.student,
      perList((s, t) => {
        const order = t.map((_, i) => i).sort((a, b) => t[b] - t[a]);
        const g = new Array(N).fill(0);
        for (let i = 0; i < topK; i++) {
          const rest = order.slice(i);
          for (const [k, p] of softmax(rest.map((j) => s[j])).entries()) g[rest[k]] += p;
          g[order[i]] -= 1;
        }
        return g;
      }),
    );
  });

  test('SLaM', async () => {
    const reliability = s.map((row) => row.map(() => 0.5 + 0.5 * random.uniform()));
    const { gradients } = await losses.slam({ scale: 1, shift: 0 }).evaluate({ student: s, teacher: t, reliability });
    near(
      gradients.student,
      s.map((row, b) =>
        row.map((v, n) => {
          const [a, p, y] = [reliability[b][n], sigmoid(v), Number(t[b][n] > 0)];
          const mixed = a * p + (1 - a) * (1 - p);
          return (((mixed - y) / (mixed * (1 - mixed))) * (2 * a - 1) * p * (1 - p)) / N / B;
        }),
      ),
    );
  });
});

describe('of embeddings', () => {
  const [n, M, D] = [4, 6, 5];
  const [Q, P] = [matrix(n, D), matrix(M, D)];
  const onehot = (b: number): number[] => Array.from({ length: M }, (_, m) => Number(m === b));

  test.each([1, 0.3])('InfoNCE at temperature %d: through the scores to both sides', async (tau) => {
    const { gradients } = await losses['info-nce']({ temperature: tau }).evaluate({ queries: Q, documents: P });
    const G = Q.map((q, b) =>
      softmax(
        P.map((p) => dot(q, p)),
        tau,
      ).map((v, m) => (v - onehot(b)[m]) / tau / n),
    );
    for (const row of G) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 12);
    near(gradients.queries, times(G, P));
    near(gradients.documents, times(transpose(G), Q));
  });

  test('in-batch KL: through the scores to both sides', async () => {
    const teacherInBatch = matrix(n, M);
    const { gradients } = await losses['in-batch-kl']({
      temperature: 2,
      studentTemperature: 2,
      teacherScores: 'given',
    }).evaluate({
      queries: Q,
      documents: P,
      teacherInBatch,
    });
    const G = Q.map((q, b) =>
      softmax(
        P.map((p) => dot(q, p)),
        2,
      ).map((v, m) => (2 * (v - softmax(teacherInBatch[b], 2)[m])) / n),
    );
    near(gradients.queries, times(G, P));
    near(gradients.documents, times(transpose(G), Q));
  });

  test('Gram matching of queries: each row leaves itself out', async () => {
    const teacherQueries = matrix(n, 3);
    const { gradients } = await losses['gram-matching']({
      of: ['query-query'],
      temperature: 1,
      studentTemperature: 1,
    }).evaluate({
      queries: Q,
      documents: P,
      teacherQueries,
      teacherDocuments: matrix(M, 3),
    });
    const rows = (E: Matrix): Matrix =>
      E.map((e, i) => {
        const others = E.map((_, j) => j).filter((j) => j !== i);
        const p = softmax(others.map((j) => dot(e, E[j])));
        return E.map((_, j) => (j === i ? 0 : p[others.indexOf(j)]));
      });
    const [q, p] = [rows(Q), rows(teacherQueries)];
    const G = q.map((row, i) => row.map((v, j) => (v - p[i][j]) / n));
    near(
      gradients.queries,
      times(
        G.map((row, i) => row.map((v, j) => v + G[j][i])),
        Q,
      ),
    );
  });

  test('L2 embedding matching, with a projection', async () => {
    const [W, T] = [matrix(D, 3), matrix(n, 3)];
    const { gradients } = await losses['embedding-matching']({ of: 'queries', distance: 'l2' }).evaluate({
      queries: Q,
      teacherQueries: T,
      projection: { dims: [D, 3], data: W.flat() },
    });
    const U = times(Q, W).map((row, i) => {
      const r = row.map((v, k) => v - T[i][k]);
      return r.map((v) => v / norm(r) / n);
    });
    near(gradients.queries, times(U, transpose(W)));
    near(gradients.projection, times(transpose(Q), U));
  });

  test('squared embedding matching', async () => {
    const T = matrix(n, D);
    const { gradients } = await losses['embedding-matching']({ of: 'queries' }).evaluate({
      queries: Q,
      teacherQueries: T,
    });
    near(
      gradients.queries,
      Q.map((q, i) => q.map((v, k) => (2 * (v - T[i][k])) / n)),
    );
  });

  test('cosine embedding matching, through the normalisation', async () => {
    const T = matrix(n, D);
    const { gradients } = await losses['embedding-matching']({ of: 'queries', distance: 'cosine' }).evaluate({
      queries: Q,
      teacherQueries: T,
    });
    near(
      gradients.queries,
      Q.map((q, i) =>
        throughNormalisation(
          q,
          unit(T[i]).map((v) => -v / n),
        ),
      ),
    );
  });

  test('pair matching', async () => {
    const candidates = { dims: [2, 2], data: [0, 2, 1, 2] };
    const own = Q.slice(0, 2);
    const [tq, td] = [matrix(4, D), matrix(4, D)];
    const { gradients } = await losses['pair-matching']().evaluate({
      queries: own,
      documents: P,
      candidates,
      mask: [
        [1, 1],
        [1, 1],
      ],
      pairQueries: { dims: [2, 2, D], data: tq.flat() },
      pairDocuments: { dims: [2, 2, D], data: td.flat() },
    });
    const pull = (e: number[], target: number[]): number[] => {
      const r = e.map((v, k) => v - target[k]);
      return r.map((v) => v / norm(r) / 4);
    };
    const [dQ, dP] = [own.map((q) => q.map(() => 0)), P.map((p) => p.map(() => 0))];
    for (const [pair, m] of candidates.data.entries()) {
      const b = pair >> 1;
      for (const [k, g] of pull(own[b], tq[pair]).entries()) dQ[b][k] += g;
      for (const [k, g] of pull(P[m], td[pair]).entries()) dP[m][k] += g;
    }
    near(gradients.queries, dQ);
    near(gradients.documents, dP);
  });

  test('RKD distance, its mean distance not held constant', async () => {
    const T = matrix(n, 3);
    const { gradients } = await losses['relative-geometry']({ angleWeight: 0 }).evaluate({
      queries: Q,
      teacherQueries: T,
    });
    const distances = (E: Matrix): Matrix => E.map((a) => E.map((b) => norm(a.map((v, k) => v - b[k]))));
    const m = n * (n - 1);
    const sum = (A: Matrix): number => A.flat().reduce((a, b) => a + b, 0);
    const [Ds, Dt] = [distances(Q), distances(T)];
    const [mus, mut] = [sum(Ds) / m, sum(Dt) / m];
    const c = Ds.map((row, i) =>
      row.map((d, j) => (i === j ? 0 : Math.max(-1, Math.min(1, d / mus - Dt[i][j] / mut)) / m)),
    );
    const through = sum(c.map((row, i) => row.map((v, j) => v * Ds[i][j]))) / mus ** 2 / m;
    const g = Q.map((q) => q.map(() => 0));
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++)
        for (let k = 0; k < D && i !== j; k++) {
          const u = ((c[i][j] / mus - through) * (Q[i][k] - Q[j][k])) / Ds[i][j];
          g[i][k] += u;
          g[j][k] -= u;
        }
    near(gradients.queries, g);
  });

  test('similarity preserving', async () => {
    const T = matrix(n, 3);
    const { gradients } = await losses['similarity-preserving']().evaluate({ queries: Q, teacherQueries: T });
    const gram = (E: Matrix): Matrix => times(E, transpose(E));
    const [Gm, Gt] = [gram(Q), gram(T).map(unit)];
    const dGm = Gm.map((row, i) => {
      const g = unit(row);
      const dG = g.map((v, j) => (2 * (v - Gt[i][j])) / n ** 2);
      const along = dot(g, dG);
      return dG.map((v, j) => (v - g[j] * along) / norm(row));
    });
    near(
      gradients.queries,
      times(
        dGm.map((row, i) => row.map((v, j) => v + dGm[j][i])),
        Q,
      ),
    );
  });

  test('Matryoshka: each prefix is normalised separately and summed; nothing beyond the prefix', async () => {
    const T = [0.4, -1];
    const candidates = { dims: [1, 2], data: [0, 1] };
    const dims = [D, 2];
    const factors = [1, 0.5];
    const { gradients } = await matryoshka(losses.kl({ studentTemperature: 1 }), {
      dimensions: dims,
      weights: factors,
    }).evaluate({
      queries: [Q[0]],
      documents: P,
      candidates,
      teacher: [T],
    });
    const expected = Q[0].map(() => 0);
    for (const [w, m] of dims.entries()) {
      const [q, d] = [Q[0].slice(0, m), [0, 1].map((i) => unit(P[i].slice(0, m)))];
      const score = d.map((v) => dot(unit(q), v));
      const dS = softmax(score).map((v, i) => factors[w] * (v - softmax(T)[i]));
      const dq = throughNormalisation(
        q,
        q.map((_, k) => dS[0] * d[0][k] + dS[1] * d[1][k]),
      );
      for (const [k, g] of dq.entries()) expected[k] += g;
    }
    near(gradients.queries, expected);
    const short = await matryoshka(losses.kl({ studentTemperature: 1 }), { dimensions: [2] }).evaluate({
      queries: [Q[0]],
      documents: P,
      candidates,
      teacher: [T],
    });
    expect(Array.from(short.gradients.queries?.slice(2) ?? [1])).toEqual([0, 0, 0]);
  });
});
