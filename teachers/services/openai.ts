/**
 * @file OpenAI's embeddings protocol, which many servers support. @source
 * https://platform.openai.com/docs/api-reference/embeddings
 */
import { byIndex, type ServiceFormat, vector } from './format.ts';

export const openaiEmbeddings: ServiceFormat = {
  title: 'OpenAI',
  key: 'OPENAI_API_KEY',
  embed: {
    path: '/v1/embeddings',
    batch: 128,
    body: (input, { model, dimensions }) => ({ model, input, encoding_format: 'float', dimensions }),
    read: (answer, n) =>
      byIndex((answer as { data?: unknown } | null)?.data, n, 'embeddings', (item) =>
        vector(item.embedding, 'an embedding'),
      ),
  },
};
