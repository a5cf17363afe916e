/** @file Search of an index by vectors and BM25 together: exact with regard to the scores that the index gives. */
import { CHANNEL_DEPTH, type HybridWeight } from '../hybrid.ts';
import type { LiveBm25 } from '../live-bm25.ts';
import { topK } from '../top-k.ts';
import type { Found, IndexedDocument, IndexStore } from './store.ts';

/**
 * The k best by score = vectors' product + lambda x BM25 / scale. Each channel finds its best; where a document that neither found
 * could still be better than the last one, both are searched deeper.
 * @param query its vector [dimensions], and its text, whose terms BM25 looks for
 */
export function hybridHits(
  store: IndexStore,
  lexical: LiveBm25,
  { lambda, scale }: HybridWeight,
  { vector, text, k }: { vector: Float32Array; text: string; k: number },
): Found[] {
  const n = store.size;
  for (let depth = Math.max(CHANNEL_DEPTH, k); ; depth *= 4) {
    const near = store.searchIds(vector, depth);
    const dense = new Map(near.map((d) => [d.id, d.score]));
    const words = lexical.search(text, depth);
    // The two channels are changed one after the other: a document that only one of them has is left for the next search.
    const others = words.ids.filter((id) => !dense.has(id) && store.has(id));
    const scores = store.scores(vector, others);
    for (const [i, id] of others.entries()) dense.set(id, scores[i]);
    const ids = [...dense.keys()];
    const bm25 = lexical.scores(text, ids);
    const place = (id: string): number => lexical.placeOf(id) ?? Number.POSITIVE_INFINITY;
    const top = ids
      .map((id, i) => ({ id, score: Math.fround((dense.get(id) as number) + (lambda * bm25[i]) / scale) }))
      .sort((a, b) => b.score - a.score || place(a.id) - place(b.id))
      .slice(0, k);
    const last = (list: ArrayLike<number>): number => list[list.length - 1];
    const unseen = (near.at(-1)?.score ?? 0) + (words.ids.length < depth ? 0 : (lambda * last(words.scores)) / scale);
    if (near.length >= depth && near.length < n && top[top.length - 1].score < unseen) continue;
    return top.map(({ id, score }) => ({ ...(store.get(id) as IndexedDocument), score }));
  }
}

/**
 * The k best of some documents, each of which is scored.
 * @param lexical with its weight; vectors alone without one
 */
export function hitsAmong(
  store: IndexStore,
  lexical: LiveBm25 | undefined,
  weight: HybridWeight | null,
  { vector, text, k }: { vector: Float32Array; text: string; k: number },
  ids: readonly string[],
): Found[] {
  const dense = store.scores(vector, ids);
  const words = lexical && weight ? lexical.scores(text, ids) : undefined;
  const scores =
    words && weight ? dense.map((s, i) => Math.fround(s + (weight.lambda * words[i]) / weight.scale)) : dense;
  const { indices, scores: best } = topK(scores, k);
  return Array.from(indices, (at, i) => ({ ...(store.get(ids[at]) as IndexedDocument), score: best[i] }));
}
