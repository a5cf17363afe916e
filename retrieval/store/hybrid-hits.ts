/** @file Search of an index by vectors and BM25 together: exact with regard to the scores that the index gives. */
import { CHANNEL_DEPTH, type HybridWeight } from '../hybrid.ts';
import { topK } from '../top-k.ts';
import type { Found, IndexStore } from './store.ts';
import type { TermChannel } from './term-search.ts';

/**
 * The k best by score = vectors' product + lambda x BM25 / scale. Each channel finds its best; where a document that neither found
 * could still be better than the last one, both are searched deeper.
 * @param query its vector [dimensions], and its text, whose terms BM25 looks for
 */
export function hybridHits(
  store: IndexStore,
  lexical: TermChannel,
  { lambda, scale }: HybridWeight,
  { vector, text, k }: { vector: Float32Array; text: string; k: number },
): Found[] {
  const n = store.size;
  for (let depth = Math.max(CHANNEL_DEPTH, k); ; depth *= 4) {
    const near = store.searchPositions(vector, depth);
    const words = lexical.search(text, depth);
    const seen = new Set(near.indices);
    const others = words.indices.filter((at) => !seen.has(at));
    const found = near.indices.length;
    const positions = new Int32Array(found + others.length);
    positions.set(near.indices);
    positions.set(others, found);
    const dense = new Float32Array(positions.length);
    dense.set(near.scores);
    dense.set(store.scoresAt(vector, others), found);
    const bm25 = lexical.scores(text, positions);
    const scores = dense.map((s, i) => Math.fround(s + (lambda * bm25[i]) / scale));
    const top = Array.from(positions.keys())
      .sort((a, b) => scores[b] - scores[a] || positions[a] - positions[b])
      .slice(0, k);
    const last = (list: ArrayLike<number>): number => list[list.length - 1];
    const unseen =
      (last(near.scores) ?? 0) + (words.indices.length < depth ? 0 : (lambda * last(words.scores)) / scale);
    if (found >= depth && found < n && scores[last(top)] < unseen) continue;
    return store.found({ indices: top.map((i) => positions[i]), scores: top.map((i) => scores[i]) });
  }
}

/**
 * The k best of some documents, each of which is scored.
 * @param lexical with its weight; vectors alone without one
 */
export function hitsAmong(
  store: IndexStore,
  lexical: TermChannel | undefined,
  weight: HybridWeight | null,
  { vector, text, k }: { vector: Float32Array; text: string; k: number },
  ids: readonly string[],
): Found[] {
  const positions = store.positionsOf(ids);
  const dense = store.scoresAt(vector, positions);
  const words = lexical && weight ? lexical.scores(text, positions) : undefined;
  const scores =
    words && weight ? dense.map((s, i) => Math.fround(s + (weight.lambda * words[i]) / weight.scale)) : dense;
  const { indices, scores: best } = topK(scores, k);
  return store.found({ indices: indices.map((i) => positions[i]), scores: best });
}
