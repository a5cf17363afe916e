/** @file Every protocol of a service by the name that configs use. Another one is a file and a line here. */
import type { ServiceFormat } from './format.ts';
import { openaiEmbeddings } from './openai.ts';
import { cohere, jina } from './rerankers.ts';
import { tei } from './tei.ts';

export const formatNames = ['tei', 'cohere', 'jina', 'openai-embeddings'] as const;
export type FormatName = (typeof formatNames)[number];

export const formats: Readonly<Record<FormatName, ServiceFormat>> = {
  tei,
  cohere,
  jina,
  'openai-embeddings': openaiEmbeddings,
};
