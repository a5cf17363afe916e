/** @file A model object of @huggingface/transformers or @xenova/transformers as teacher, passed in by a program. */
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import { lengthBatches, type PaddedBatch, padBatch } from '../data/batches.ts';
import { type PairLimits, type RawTokenizer, TextTokenizer, type Tokens } from '../data/tokenizer.ts';
import { floatsOf } from '../engine/graph/tensor.ts';
import { batchTokens } from '../engine/runtime/session.ts';
import { positionsOf } from '../models/model-folder.ts';
import { type LabelChoice, scoreRule } from './reading/labels.ts';
import type { Pair, Teacher } from './teacher.ts';

interface TensorLike {
  readonly type?: string;
  readonly data: ArrayLike<number>;
  readonly dims: readonly number[];
}

/** What AutoModel, AutoTokenizer and pipelines give: callable objects. */
export interface TransformersObject {
  tokenizer: (text: string, options: Record<string, unknown>) => unknown;
  model: ((inputs: Record<string, unknown>) => Promise<unknown>) & { readonly config?: unknown };
}

export interface TransformersOptions extends PairLimits {
  name?: string;
  /** Tokens of a query and of a document where texts are embedded, special tokens included. */
  queryTokens?: number;
  documentTokens?: number;
  /** Of token vectors, where the model gives no sentence embedding. */
  pooling?: 'mean' | 'cls';
  normalize?: boolean;
  /** Which label of a classifier means relevance, by name or place, where id2label does not say it. */
  label?: LabelChoice;
  /** Padded tokens a batch. */
  batchTokens?: number;
  /** Stands for the model in the cache; by default it is a hash of what the model answers to fixed texts. */
  key?: string;
}

/** Tokens a text where neither tokenizer nor config name a limit. */
const UNLIMITED = 512;

/** Texts whose results identify a model. */
const probes = ['a', 'how do I list open files?', 'lsof lists the files that processes hold open', 'zebra 17 $'];

/**
 * A teacher of a tokenizer and a model in hand, or of a pipeline, which holds both. A sequence classifier scores pairs by its
 * raw logits; any other encoder embeds texts. Texts are cut as Hugging Face's `longest_first` does: the library's own cut
 * loses the last special token. The object stays the program's: `dispose` leaves it alone.
 *
 *     const tokenizer = await AutoTokenizer.from_pretrained(id);
 *     const model = await AutoModelForSequenceClassification.from_pretrained(id);
 *     const teacher = await transformersTeacher({ tokenizer, model });
 *
 * @throws InputError where the model gives neither logits of one or two columns nor vectors
 */
export async function transformersTeacher(
  object: TransformersObject,
  options: TransformersOptions = {},
): Promise<Teacher> {
  const { name = 'the model object', pooling = 'mean', normalize = true } = options;
  const tokenizer = adapt(object, name);
  const config = (object.model.config ?? {}) as Record<string, unknown>;
  const stated = positionsOf(config, tokenizer.padId);
  const least = Math.min(tokenizer.modelMaxLength ?? Number.POSITIVE_INFINITY, stated);
  const longest = Number.isFinite(least) ? least : UNLIMITED;
  const limits: PairLimits = {
    maxLength: Math.min(options.maxLength ?? longest, Number.isFinite(stated) ? stated : UNLIMITED),
    maxQuery: options.maxQuery,
    maxDocument: options.maxDocument,
  };
  const textLimit = { query: options.queryTokens ?? longest, document: options.documentTokens ?? longest };
  const sample = (await object.tokenizer('a', {})) as { input_ids: { constructor: unknown } };
  const Tensor = sample.input_ids.constructor as new (type: string, data: BigInt64Array, dims: number[]) => unknown;

  const run = async (batch: PaddedBatch): Promise<Record<string, TensorLike | undefined>> => {
    const tensor = (data: BigInt64Array): unknown => new Tensor('int64', data, [batch.rows, batch.length]);
    return (await object.model({
      input_ids: tensor(batch.ids),
      attention_mask: tensor(batch.mask),
      token_type_ids: tensor(batch.typeIds),
    })) as Record<string, TensorLike | undefined>;
  };

  /** Runs texts in batches of like length and passes each batch's answer on. */
  async function each(
    tokens: readonly Tokens[],
    progress: { stage: string; unit: string },
    watch: RunControl,
    take: (output: Record<string, TensorLike | undefined>, rows: readonly number[], batch: PaddedBatch) => void,
  ): Promise<void> {
    let done = 0;
    watch.signal?.throwIfAborted();
    for (const rows of lengthBatches(
      tokens.map((t) => t.ids.length),
      options.batchTokens ?? batchTokens(),
    )) {
      watch.signal?.throwIfAborted();
      const batch = padBatch(
        rows.map((i) => tokens[i]),
        tokenizer.padId,
      );
      take(await run(batch), rows, batch);
      done += rows.length;
      watch.onProgress?.({ ...progress, done, total: tokens.length });
    }
  }

  async function logits(pairs: readonly Pick<Pair, 'query' | 'document'>[], watch: RunControl): Promise<Float32Array> {
    const scores = new Float32Array(pairs.length);
    const tokens = pairs.map((p) => tokenizer.encodePair(p.query, p.document, limits));
    await each(tokens, { stage: 'score', unit: 'pairs' }, watch, ({ logits }, rows) => {
      const data = numbersOf(logits as TensorLike);
      const columns = data.length / rows.length;
      const rule = scoreRule(columns, config, name, options.label);
      for (const [r, i] of rows.entries()) scores[i] = rule.read(data, r * columns);
    });
    return scores;
  }

  async function vectors(
    texts: { length: number; text(i: number): string },
    kind: 'query' | 'document',
    watch: RunControl,
  ): Promise<{ dimensions: number; data: Float32Array }> {
    let dimensions = 0;
    let all = new Float32Array(0);
    const tokens = Array.from({ length: texts.length }, (_, i) => tokenizer.encode(texts.text(i), textLimit[kind]));
    const stage = `embed ${kind === 'query' ? 'queries' : 'documents'}`;
    await each(tokens, { stage, unit: 'texts' }, watch, (output, rows, batch) => {
      const vectors = sentenceVectors(output, batch, pooling, normalize, name);
      if (!dimensions) {
        dimensions = vectors.length / rows.length;
        all = new Float32Array(texts.length * dimensions);
      }
      for (const [r, i] of rows.entries())
        all.set(vectors.subarray(r * dimensions, (r + 1) * dimensions), i * dimensions);
    });
    return { dimensions, data: all };
  }

  const table = (texts: readonly string[]) => ({ length: texts.length, text: (i: number) => texts[i] });
  const first = await run(padBatch([tokenizer.encodePair('a', 'b', limits)], tokenizer.padId));
  const classifier = first.logits !== undefined;
  const half = Object.values(first).some((t) => t?.type === 'float16');
  const fingerprint = classifier
    ? await logits(
        probes.map((document) => ({ query: probes[1], document })),
        {},
      )
    : (await vectors(table(probes), 'document', {})).data;
  const kind = classifier ? 'cross-encoder' : 'dual-encoder';
  const key = hashParts(
    `transformers-js ${kind}`,
    options.key ?? new Uint8Array(fingerprint.buffer),
    JSON.stringify(classifier ? limits : [textLimit, pooling, normalize]),
    // A key of the program's own says nothing of these; half floats were read as integers by versions before this one.
    ...(options.key !== undefined && half ? ['float16'] : []),
    ...(options.key !== undefined && options.label !== undefined ? [`label ${options.label}`] : []),
  );
  const dispose = async (): Promise<void> => {};
  if (classifier) return { name, kind, key, score: (pairs, watch = {}) => logits(pairs, watch), dispose };
  return {
    name,
    kind,
    key,
    embed: (texts, side, watch = {}) => vectors('text' in texts ? texts : table(texts), side, watch),
    async score(pairs, watch = {}) {
      const q = await vectors(table(pairs.map((p) => p.query)), 'query', watch);
      const d = await vectors(table(pairs.map((p) => p.document)), 'document', watch);
      const at = (i: number): [number, number] => [i * q.dimensions, (i + 1) * q.dimensions];
      return Float32Array.from(pairs, (_, i) => dot(q.data.subarray(...at(i)), d.data.subarray(...at(i))));
    },
    dispose,
  };
}

/** The library's tokenizer behind our own cutting of texts. */
function adapt({ tokenizer }: TransformersObject, name: string): TextTokenizer {
  const facts = tokenizer as unknown as { model_max_length?: unknown; pad_token_id?: unknown };
  const raw: RawTokenizer = {
    encode(text, options) {
      const found = tokenizer(text, { ...options, return_tensor: false }) as {
        input_ids: number[];
        token_type_ids?: number[];
      };
      return { ids: Array.from(found.input_ids, Number), token_type_ids: found.token_type_ids };
    },
  };
  try {
    const max = facts.model_max_length;
    return TextTokenizer.of(raw, {
      hash: '',
      padId: typeof facts.pad_token_id === 'number' ? facts.pad_token_id : 0,
      vocabularySize: Number.NaN,
      modelMaxLength: typeof max === 'number' && max < 1e6 ? max : undefined,
    });
  } catch (cause) {
    throw new InputError({
      code: 'teacher.tokenizer',
      subject: `the tokenizer of ${name} cannot be used (${(cause as Error).message})`,
      remedy: 'give the tokenizer that AutoTokenizer.from_pretrained returns',
      cause,
    });
  }
}

/** [rows, dimensions] of a batch: the model's own sentence embedding, or its token vectors pooled. */
function sentenceVectors(
  output: Record<string, TensorLike | undefined>,
  batch: PaddedBatch,
  pooling: 'mean' | 'cls',
  normalize: boolean,
  name: string,
): Float32Array {
  const ready = output.sentence_embedding;
  if (ready) return numbersOf(ready).slice();
  const hidden = output.last_hidden_state ?? output.token_embeddings;
  if (!hidden)
    throw new InputError({
      code: 'teacher.no-logits',
      subject: `${name} gives ${Object.keys(output).join(', ') || 'nothing'}`,
      expected: 'logits or last_hidden_state',
      remedy: 'load it with AutoModelForSequenceClassification, or with AutoModel for a dual-encoder',
    });
  const values = numbersOf(hidden);
  const D = values.length / (batch.rows * batch.length);
  const vectors = new Float32Array(batch.rows * D);
  for (let r = 0; r < batch.rows; r++) {
    const vector = vectors.subarray(r * D, (r + 1) * D);
    for (let t = 0; t < batch.length; t++) {
      if (pooling === 'cls' ? t > 0 : !batch.mask[r * batch.length + t]) continue;
      const from = (r * batch.length + t) * D;
      for (let k = 0; k < D; k++) vector[k] += values[from + k];
    }
    // A mean and a sum have the same direction; only without normalisation does the count matter.
    const count =
      pooling === 'cls' ? 1 : batch.mask.subarray(r * batch.length, (r + 1) * batch.length).filter(Boolean).length;
    const norm = normalize ? Math.sqrt(dot(vector, vector)) || 1 : count;
    for (let k = 0; k < D; k++) vector[k] /= norm;
  }
  return vectors;
}

/** A tensor's numbers in float32: half floats are bits before Node 24, and numbers from then on. */
function numbersOf({ type, data, dims }: TensorLike): Float32Array {
  if (data instanceof Float32Array) return data;
  if (type === 'float16' && data instanceof Uint16Array) return floatsOf({ dtype: type, dims, data });
  return Float32Array.from(data, Number);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}
