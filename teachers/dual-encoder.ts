/** @file An ONNX dual-encoder as teacher: scores are dot products, and its embeddings can be matched or inherited. */
import { hashParts } from '../common/files.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { describeEncoder, Encoder, type EncoderOptions, encoderKey } from '../models/encoder.ts';
import { type Prompts, promptKey } from '../models/modules/prompts.ts';
import { checkDType, checkedCompact, isCompact, keyIn, toCompact } from './compact.ts';
import type { Teacher, TeacherDType } from './teacher.ts';

/** Limits and where a dual-encoder computes. */
export interface DualEncoderOptions extends EncoderOptions {
  name?: string;
  /** Tokens a query and a document, special tokens included. */
  queryTokens?: number;
  documentTokens?: number;
  /** int8 (the CPU's integer units) or fp16 (on CUDA), compared with float32 on a sample of the first texts. */
  dtype?: TeacherDType;
}

type Limits = Pick<DualEncoderOptions, 'queryTokens' | 'documentTokens'>;

const limitsOf = ({ queryTokens, documentTokens }: Limits, maxLength: number) => ({
  query: queryTokens ?? maxLength,
  document: documentTokens ?? maxLength,
});

/** A model without prompts has the key that it had before there were any. */
const keyOf = (encoder: string, limit: object, { query, document }: Prompts): string => {
  const prompts = promptKey(query, document);
  return hashParts('dual-encoder', encoder, JSON.stringify(limit), ...(prompts ? [prompts] : []));
};

/** The key of the teacher that `dualEncoder` opens. */
export async function dualEncoderKey(folder: string, options: DualEncoderOptions = {}): Promise<string> {
  const described = await describeEncoder(folder, { ...options, comparable: true });
  const key = keyOf(encoderKey(described), limitsOf(options, described.maxLength), described.prompts);
  return keyIn(options.dtype, key);
}

/**
 * Opens a dual-encoder folder as a teacher: its score is the dot product of the two vectors, scaled to unit length where its similarity is cosine.
 * @throws InputError as Encoder.load, and for a compact form of a file that cannot be changed
 */
export async function dualEncoder(folder: string, options: DualEncoderOptions = {}): Promise<Embedder> {
  const { dtype, ...rest } = options;
  checkDType(dtype, options.session, folder);
  const whole = await open(folder, rest);
  if (!isCompact(dtype)) return whole;
  try {
    const rewrite = (graph: Graph, n?: number) => toCompact(dtype, graph, folder, n);
    return checkedCompact(whole, await open(folder, { ...rest, rewrite }), dtype);
  } catch (error) {
    await whole.dispose();
    throw error;
  }
}

type Embedder = Teacher & Required<Pick<Teacher, 'embed'>>;

async function open(folder: string, options: DualEncoderOptions): Promise<Embedder> {
  const encoder = await Encoder.load(folder, { ...options, comparable: true });
  const limit = limitsOf(options, encoder.maxLength);
  const dimensions = encoder.dimensions;
  return {
    name: options.name ?? folder,
    kind: 'dual-encoder',
    key: keyOf(encoder.key, limit, encoder.prompts),
    tokenizer: encoder.tokenizer.hash,
    notes: encoder.notes,
    async embed(texts, kind, watch = {}) {
      return {
        dimensions,
        data: await encoder.encode(texts, {
          ...watch,
          maxLength: limit[kind],
          role: kind,
          stage: `embed ${kind === 'query' ? 'queries' : 'documents'}`,
        }),
      };
    },
    async embedTokens(sequences, watch = {}) {
      const tokens = sequences.map((ids) => encoder.tokenizer.wrap(ids));
      return { dimensions, data: await encoder.encodeTokens(tokens, { ...watch, stage: 'embed tokens' }) };
    },
    async score(pairs, watch = {}) {
      const queries = await encoder.encode(
        pairs.map((p) => p.query),
        { ...watch, maxLength: limit.query, role: 'query' },
      );
      const documents = await encoder.encode(
        pairs.map((p) => p.document),
        { ...watch, maxLength: limit.document, role: 'document' },
      );
      return Float32Array.from(pairs, (_, i) => {
        let dot = 0;
        for (let k = i * dimensions; k < (i + 1) * dimensions; k++) dot += queries[k] * documents[k];
        return dot;
      });
    },
    dispose: () => encoder.dispose(),
  };
}
