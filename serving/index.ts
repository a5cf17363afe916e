/** @file The entry point for search: `import { openIndex } from 'onnx-distill/retrieval'`. */
export { InputError } from '../common/errors.ts';
export type { OnProgress, Progress, RunControl } from '../common/progress.ts';
export type { TextToken } from '../data/tokenizer.ts';
export type { CodecName } from '../retrieval/codecs/index.ts';
export type { MetadataFilter } from '../retrieval/engines/facets.ts';
export type { Point as TuningPoint, Tuned, TuningGoal } from '../retrieval/tuned.ts';
export type { TuneOptions } from '../retrieval/tuning/tune.ts';
export type { IndexSettings } from '../retrieval/vector-index.ts';
export type { FromCache } from './cached-search.ts';
export {
  type Cascade,
  type CascadeAnswer,
  type CascadeHit,
  type OpenCascadeOptions,
  openCascade,
} from './cascade.ts';
export type { DocumentIndex, SearchDocument, SearchHit, SearchOptions } from './documents/document-index.ts';
export type { DriftReport } from './drift-watch.ts';
export { type OpenEncoder, type OpenEncoderOptions, openEncoder } from './encoder/encoder.ts';
export { type OpenSparseEncoder, type OpenSparseEncoderOptions, openSparseEncoder } from './encoder/sparse-encoder.ts';
export type { TokenizeOptions, Tokens } from './encoder/text-tokens.ts';
export { EngineIndex } from './engine-index.ts';
export {
  type CreateEngineIndexOptions,
  type CreateIndexOptions,
  type CreateSparseIndexOptions,
  createEngineIndex,
  createIndex,
  createSparseIndex,
  type OpenIndexOptions,
  openIndex,
} from './open-index.ts';
export { type OpenRerankerOptions, openReranker, type Reranker } from './reranker.ts';
export { SearchIndex } from './search-index.ts';
export { SparseIndex } from './sparse/sparse-index.ts';
export { type DocumentStates, openSplitReranker, type SplitReranker } from './split-reranker.ts';
