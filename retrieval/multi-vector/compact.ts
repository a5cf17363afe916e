/** @file Fewer token vectors a document: hierarchical pooling of near ones, and tokens that say nothing left out. */
import type { Rows } from '../../math/numbers.ts';

/**
 * Merges near token vectors to their means until one is left of every `factor`: Ward's method over 1 - cosine, as PyLate pools. Means
 * are not brought to unit length again.
 *
 * @param tokens [n, dimensions] at unit length
 * @param protect so many first tokens stay as they are
 * @source lightonai/pylate, pool_embeddings_hierarchical; the update of Lance and Williams as in scipy.cluster.hierarchy
 */
export function poolTokens(tokens: Rows, factor: number, protect = 1): Rows {
  const { dimensions: D, data } = tokens;
  const all = data.length / D;
  const n = all - Math.min(protect, all);
  const clusters = Math.max(1, Math.floor(n / factor));
  if (n <= 0 || clusters >= n) return tokens;
  const row = (i: number): ArrayLike<number> =>
    (data as Float32Array).subarray((protect + i) * D, (protect + i + 1) * D);
  const distance = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++) {
      const [a, b] = [row(i), row(j)];
      let dot = 0;
      for (let k = 0; k < D; k++) dot += a[k] * b[k];
      distance[i * n + j] = 1 - dot;
      distance[j * n + i] = 1 - dot;
    }
  // Each cluster is named by its first token.
  const size = new Float64Array(n).fill(1);
  const members = Array.from({ length: n }, (_, i) => [i]);
  const alive = new Set(members.keys());
  while (alive.size > clusters) {
    let [best, a, b] = [Number.POSITIVE_INFINITY, 0, 0];
    for (const i of alive)
      for (const j of alive) if (j > i && distance[i * n + j] < best) [best, a, b] = [distance[i * n + j], i, j];
    for (const k of alive) {
      if (k === a || k === b) continue;
      const [ka, kb] = [distance[k * n + a] ** 2, distance[k * n + b] ** 2];
      const total = size[k] + size[a] + size[b];
      const squared = ((size[k] + size[a]) * ka + (size[k] + size[b]) * kb - size[k] * best ** 2) / total;
      distance[k * n + a] = distance[a * n + k] = Math.sqrt(Math.max(0, squared));
    }
    size[a] += size[b];
    members[a] = [...members[a], ...members[b]];
    alive.delete(b);
  }
  const kept = [...alive].sort((i, j) => i - j);
  const out = new Float32Array((protect + kept.length) * D);
  for (let i = 0; i < protect * D; i++) out[i] = data[i];
  for (const [at, c] of kept.entries())
    for (const i of members[c]) {
      const from = row(i);
      for (let k = 0; k < D; k++) out[(protect + at) * D + k] += from[k] / members[c].length;
    }
  return { dimensions: D, data: out };
}

/** Token vectors without those of some ids (punctuation); at least the first is kept. @param ids [n] */
export function withoutTokens(tokens: Rows, ids: ArrayLike<number>, left: ReadonlySet<number>): Rows {
  const { dimensions: D, data } = tokens;
  const n = data.length / D;
  const kept = Array.from({ length: n }, (_, i) => i).filter((i) => !left.has(ids[i]));
  if (!kept.length) kept.push(0);
  if (kept.length === n) return tokens;
  const out = new Float32Array(kept.length * D);
  for (const [at, i] of kept.entries()) for (let k = 0; k < D; k++) out[at * D + k] = data[i * D + k];
  return { dimensions: D, data: out };
}
