/** @file text-embeddings-inference. @source https://huggingface.github.io/text-embeddings-inference (/rerank, /embed) */
import { badAnswer, byIndex, finite, type ServiceFormat, vector } from './format.ts';

/** What a server of default settings takes (--max-client-batch-size). */
const BATCH = 32;

export const tei: ServiceFormat = {
  title: 'text-embeddings-inference',
  key: 'TEI_API_KEY',
  rerank: {
    path: '/rerank',
    batch: BATCH,
    // Without raw_scores it answers with a sigmoid, whose ends are flat.
    body: (query, texts, { truncate }) => ({ query, texts, raw_scores: true, return_text: false, truncate }),
    read: (answer, n) => Float32Array.from(byIndex(answer, n, 'scores', (item) => finite(item.score, 'a score'))),
    probabilities: false,
  },
  embed: {
    path: '/embed',
    batch: BATCH,
    body: (inputs, { truncate }) => ({ inputs, truncate, normalize: true }),
    read(answer, n) {
      if (!Array.isArray(answer) || answer.length !== n)
        throw badAnswer(`it has ${Array.isArray(answer) ? answer.length : 'no'} embeddings for ${n} texts`);
      return answer.map((v) => vector(v, 'an embedding'));
    },
  },
};
