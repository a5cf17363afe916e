/**
 * @file Cohere's and Jina's rerankers. Both document relevance within [0, 1], best first, each with the index of its document.
 * @source https://docs.cohere.com/reference/rerank (v2), https://api.jina.ai/redoc (v1/rerank)
 */
import { badAnswer, byIndex, finite, type RerankFormat, type ServiceFormat } from './format.ts';

const results = (answer: unknown, n: number): Float32Array => {
  const { results } = (answer ?? {}) as { results?: unknown };
  if (!Array.isArray(results)) throw badAnswer("it has no 'results'");
  return Float32Array.from(
    byIndex(results, n, 'results', (item) => finite(item.relevance_score, "a 'relevance_score'")),
  );
};

const reranker = (path: string, more: object): RerankFormat => ({
  path,
  batch: 100,
  body: (query, documents, { model }) => ({ model, query, documents, top_n: documents.length, ...more }),
  read: results,
  probabilities: true,
});

export const cohere: ServiceFormat = {
  title: 'Cohere',
  key: 'COHERE_API_KEY',
  rerank: reranker('/v2/rerank', {}),
};

export const jina: ServiceFormat = {
  title: 'Jina',
  key: 'JINA_API_KEY',
  rerank: reranker('/v1/rerank', { return_documents: false }),
};
