/** @file An ONNX cross-encoder: reads query and document together and says how well they match. */
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { padBatch, shapedBatches } from '../data/batches.ts';
import { type PairLimits, TextTokenizer } from '../data/tokenizer.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { forwardBytes, tokensWithin } from '../engine/runtime/forward-memory.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { checkVocabulary, tokenInputs } from '../models/encoder.ts';
import { modelHash, readModelFolder } from '../models/model-folder.ts';
import type { Pair, Teacher } from './teacher.ts';

export interface CrossEncoderOptions extends PairLimits {
  name?: string;
  /** Padded tokens a batch. */
  batchTokens?: number;
  session?: SessionOptions;
}

/** Pairs read at a time: enough to sort by length, few enough to hold. */
const CHUNK = 4096;

async function describe(folder: string, options: PairLimits) {
  const files = await readModelFolder(folder);
  const tokenizer = await TextTokenizer.load(files.folder);
  const limits: PairLimits = {
    maxLength: options.maxLength ?? Math.min(files.maxLength ?? 512, tokenizer.modelMaxLength ?? 512),
    maxQuery: options.maxQuery,
    maxDocument: options.maxDocument,
  };
  const key = hashParts('cross-encoder', await modelHash(files.model), tokenizer.hash, JSON.stringify(limits));
  return { files, tokenizer, limits, key };
}

/** The key of the teacher that `crossEncoder` opens. */
export const crossEncoderKey = async (folder: string, options: PairLimits = {}): Promise<string> =>
  (await describe(folder, options)).key;

/**
 * Opens a cross-encoder's folder. A model with one logit gives it as it is; one with two gives their difference, relevant
 * less irrelevant, which orders documents as the softmax over both does without its flat ends.
 *
 * @throws InputError where files are missing or the model has no logits of one or two columns
 */
export async function crossEncoder(folder: string, options: CrossEncoderOptions = {}): Promise<Teacher> {
  const { files, tokenizer, limits, key } = await describe(folder, options);
  const graph = await loadGraph(files.model);
  checkVocabulary(graph, tokenizer, folder);
  if (!graph.outputs.some((v) => v.name === 'logits'))
    throw new InputError({
      code: 'teacher.no-logits',
      subject: `${files.model} has the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
      expected: 'logits',
      remedy: 'give a cross-encoder (a sequence classification model), or use teacher.kind dual-encoder',
    });
  const bytesAToken = forwardBytes(graph);
  const session = await Session.load(graph, options.session, files.model);

  let told = false;
  async function scoreChunk(
    pairs: readonly Pair[],
    into: Float32Array,
    { signal, memory, onProgress }: Watch,
  ): Promise<void> {
    const tokens = pairs.map((p) => tokenizer.encodePair(p.query, p.document, limits));
    const lengths = tokens.map((t) => t.ids.length);
    const longest = lengths.reduce((a, b) => Math.max(a, b), 1);
    const wanted = options.batchTokens ?? batchTokens(options.session);
    const most = tokensWithin(wanted, memory, bytesAToken(longest));
    if (most < wanted && !told && onProgress) {
      told = true;
      const note = `memory: pairs are scored ${most} padded tokens at a time instead of ${wanted}`;
      onProgress({ stage: 'score', done: 0, unit: 'pairs', note });
    }
    for (const { at, ...shape } of shapedBatches(lengths, most, session.onDevice, limits.maxLength)) {
      signal?.throwIfAborted();
      const b = padBatch(
        at.map((i) => tokens[i]),
        tokenizer.padId,
        shape,
      );
      const all = tokenInputs(b);
      const { logits } = await session.run(Object.fromEntries(session.inputs.map((n) => [n, all[n]])), {}, ['logits']);
      const columns = logits.data.length / b.rows;
      if (columns !== 1 && columns !== 2)
        throw new InputError({
          code: 'teacher.no-logits',
          subject: `${files.model} gives ${columns} logits a pair`,
          expected: 'one or two',
          remedy: 'give a cross-encoder trained for relevance',
        });
      const data = logits.data as Float32Array;
      for (const [r, i] of at.entries()) into[i] = columns === 1 ? data[r] : data[2 * r + 1] - data[2 * r];
    }
  }

  return {
    name: options.name ?? folder,
    kind: 'cross-encoder',
    key,
    tokenizer: tokenizer.hash,
    async score(pairs, watch: Watch = {}) {
      const scores = new Float32Array(pairs.length);
      for (let at = 0; at < pairs.length; at += CHUNK) {
        await scoreChunk(pairs.slice(at, at + CHUNK), scores.subarray(at, at + CHUNK), watch);
        watch.onProgress?.({
          stage: 'score',
          done: Math.min(pairs.length, at + CHUNK),
          total: pairs.length,
          unit: 'pairs',
        });
      }
      return scores;
    },
    dispose: () => session.release(),
  };
}
