/** @file A search in front of which earlier answers stand. */
import { InputError } from '../common/errors.ts';
import type { DocumentIndex } from './documents/document-index.ts';
import { SearchIndex } from './search-index.ts';
import { readSemanticCache, SemanticCache, semanticCacheSentence } from './semantic-cache.ts';
import { SparseIndex } from './sparse/sparse-index.ts';

/** An answer with the number of documents that was asked for. */
interface Kept<A> {
  k: number;
  answer: A;
}

/** Where an answer came from. */
export interface FromCache {
  /** The earlier query whose answer this is, and its cosine. */
  query: string;
  similarity: number;
}

export interface CachedSearch<A> {
  /** The promise, in a sentence. */
  readonly guarantee: string;
  /** Answers kept, and queries that took one or did not. */
  readonly cache: Pick<SemanticCache<A>, 'size' | 'hits' | 'misses'>;
  /** @param fresh what answers where no earlier answer is near enough */
  search(
    text: string,
    k: number,
    fresh: (vector: Float32Array) => Promise<A>,
  ): Promise<{ answer: A; from?: FromCache }>;
}

/**
 * Opens semantic-cache.json in front of a search. An answer is taken only where it has as many documents as are asked for, and all
 * are forgotten when the documents of the index change.
 *
 * @param key of the search: that of the index or of the cascade
 * @throws InputError where the file is not understood, or was certified for another search
 */
export async function openCachedSearch<A>(file: string, index: DocumentIndex, key: string): Promise<CachedSearch<A>> {
  const folder = inFolder(index);
  const content = await readSemanticCache(file);
  if (content.key !== key)
    throw new InputError({
      code: 'semantic-cache.other',
      subject: `the search is not the one that ${file} was certified for (its hash differs)`,
      remedy: 'calibrate again with distill semantic-cache, over the same index and cascade',
    });
  const { threshold, bits, tables, seed } = content;
  const { encoder } = folder;
  const { dimensions } = encoder;
  const cache = new SemanticCache<Kept<A>>({ dimensions, threshold, bits, tables, seed });
  let revision = folder.revision;
  return {
    guarantee: semanticCacheSentence(content),
    cache,
    async search(text, k, fresh) {
      if (folder.revision !== revision) {
        cache.clear();
        revision = folder.revision;
      }
      const enough = (kept: Kept<A>): boolean => kept.k >= k;
      const same = cache.same(text, enough);
      if (same) return { answer: same.answer.answer, from: { query: text, similarity: 1 } };
      const vector = await encoder.embedQueries([text]);
      const near = cache.find(vector, enough);
      if (near) return { answer: near.answer.answer, from: { query: near.text, similarity: near.similarity } };
      const at = folder.revision;
      const answer = await fresh(vector);
      // Documents may have changed meanwhile: then the answer is of neither state for sure.
      if (folder.revision === at && revision === at) cache.put(text, vector, { k, answer });
      return { answer };
    },
  };
}

/** @throws InputError for an index in an engine: what others change there is not seen here */
export function inFolder(index: DocumentIndex): SearchIndex {
  if (index instanceof SearchIndex) {
    if (!index.second) return index;
    throw new InputError({
      code: 'semantic-cache.second-stage',
      subject: `${index.folder} re-ranks by the token vectors of a query's text, and a semantic cache knows its vector alone`,
      remedy: 'search without a semantic cache, or make the index without a second stage (distill index --no-tokens)',
    });
  }
  if (index instanceof SparseIndex)
    throw new InputError({
      code: 'semantic-cache.sparse',
      subject: `${index.folder} is an index of a sparse student, whose queries have no vectors to be compared`,
      remedy: 'search without a semantic cache',
    });
  throw new InputError({
    code: 'semantic-cache.engine',
    subject: `${index.folder} names an engine, whose documents other processes change unseen`,
    expected: 'an index in a folder, whose changes make earlier answers void',
    remedy: 'search without a semantic cache',
  });
}
