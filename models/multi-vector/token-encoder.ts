/** @file Runs a dual-encoder for its token vectors: texts to one vector a token, and the vector of the whole text. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { padBatch, shapedBatches } from '../../data/batches.ts';
import type { Texts } from '../../data/dataset.ts';
import type { TextTokenizer, Tokens } from '../../data/tokenizer.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { batchTokens, Session, type SessionOptions } from '../../engine/runtime/session.ts';
import { describeEncoder, encoderKey } from '../encoder-description.ts';
import { checkVocabulary, encoderOutput, isPooled, shapeOf, tokenInputs, typedInput } from '../encoder-graph.ts';
import { firstPosition, hidesPadding } from '../model-folder.ts';
import { applyHead } from '../modules/head.ts';
import { type Prompts, type Role, withPrompt } from '../modules/prompts.ts';
import { positionsIn, type SentenceOptions } from '../sentence-folder.ts';

/** Where an encoder of token vectors comes from and what it puts behind them. */
export interface TokenEncoderOptions extends SentenceOptions {
  session?: SessionOptions;
  /** [hidden, dimensions] map behind the token vectors, which are then scaled to unit length; none by default. */
  projection?: Tensor<'float32'>;
}

/** The token vectors of one text. */
export interface TokenVectors {
  /** Position of the text. */
  at: number;
  /** Its token ids, special tokens included; as many as there are vectors. */
  ids: Int32Array;
  /** [ids.length, width] row-major. */
  tokens: Float32Array;
  /** [dimensions] the vector of the whole text, as `Encoder` gives it with `comparable`. */
  vector: Float32Array;
}

/** How texts are cut. */
export interface TokenEncodeOptions extends RunControl {
  role: Role;
  /** Tokens that the model reads, special tokens included. */
  maxLength: number;
  /** The first so many token vectors are given; all by default. */
  keep?: number;
  /** Name of the work in progress events. */
  stage?: string;
}

/** An open encoder of token vectors. Dispose of it when it is not needed any more. */
export interface TokenEncoder {
  /** Width of the token vectors. */
  readonly width: number;
  /** Width of the vector of a text. */
  readonly dimensions: number;
  /** Of the weights, tokenizer, head and prompts, without the projection: equal keys give equal vectors of equal texts. */
  readonly key: string;
  readonly tokenizer: TextTokenizer;
  readonly prompts: Prompts;
  /** Tokens that texts are cut at by default. */
  readonly maxLength: number;
  readonly notes: readonly string[];
  /**
   * Token vectors of texts, a batch of similar lengths at a time: in no fixed order.
   * @param each called for each text; its arrays stay valid
   */
  encode(texts: Texts, options: TokenEncodeOptions, each: (text: TokenVectors) => void): Promise<void>;
  dispose(): Promise<void>;
}

const TOKENS = 'token_vectors';
const VECTOR = 'text_vector';

/**
 * Opens a dual-encoder's folder for its token vectors.
 * @throws InputError where files are missing or not understood, the graph pools by itself, or padding cannot be hidden from it
 */
export async function openTokenEncoder(folder: string, options: TokenEncoderOptions = {}): Promise<TokenEncoder> {
  const { session: where, projection, ...stated } = options;
  const described = await describeEncoder(folder, { ...stated, comparable: true });
  const { files, tokenizer, head } = described;
  const graph = await loadGraph(files.model);
  checkVocabulary(graph, tokenizer, folder);
  const hidden = encoderOutput(graph, files.model, existsSync(join(files.folder, 'modules.json')));
  const shape = shapeOf(graph, firstPosition(files.config), hidesPadding(files.config));
  const refuse = (subject: string, remedy: string): InputError =>
    new InputError({ code: 'tokens.encoder', subject: `${files.model} ${subject}`, remedy });
  if (isPooled(hidden))
    throw refuse('gives one vector a text and no token vectors', 'export it with the output last_hidden_state');
  if (!shape.masked || shape.rows !== undefined || shape.length !== undefined)
    throw refuse(
      'takes texts of one size alone, or reads their padding',
      'export it with attention_mask and dynamic axes',
    );
  if (!head.includePrompt && (described.prompts.query.before || described.prompts.document.before))
    throw refuse('leaves the tokens of its prompts out of the pooling', 'use it without prompts');
  const positions = positionsIn(graph, files.config);
  appendOutputs(graph, hidden, head, projection);
  const session = await Session.load(graph, where, files.model);
  const most = batchTokens(where);

  const run = async (tokens: readonly Tokens[], block?: { rows: number; length: number }) => {
    const b = padBatch(tokens, tokenizer.padId, block);
    const all = tokenInputs(b, shape.firstPosition, shape.sharedPositions);
    const feeds = session.inputs.map((name) => [name, typedInput(all[name], shape.dtypes.get(name) ?? 'int64')]);
    const out = await session.run(Object.fromEntries(feeds));
    return { length: b.length, tokens: out[TOKENS], vector: out[VECTOR] };
  };
  const probe = await run([tokenizer.encode('a', 8)]);
  const [width, dimensions] = [probe.tokens.dims[2], probe.vector.dims[1]];
  const prompt = (role: Role) => described.prompts[role];
  return {
    width,
    dimensions,
    key: hashParts('tokens', encoderKey(described), JSON.stringify(described.prompts)),
    tokenizer,
    prompts: described.prompts,
    maxLength: described.maxLength,
    notes: described.notes,
    async encode(texts, { role, maxLength, keep = maxLength, stage = 'encode tokens', signal, onProgress }, each) {
      const limit = Math.min(maxLength, positions);
      for (let from = 0; from < texts.length; from += CHUNK) {
        const count = Math.min(CHUNK, texts.length - from);
        const tokens = Array.from({ length: count }, (_, i) =>
          tokenizer.encode(withPrompt(prompt(role), texts.text(from + i)), limit),
        );
        const lengths = tokens.map((t) => t.ids.length);
        let done = from;
        for (const { at, ...block } of shapedBatches(lengths, most, session.onDevice, positions)) {
          signal?.throwIfAborted();
          const found = await run(
            at.map((i) => tokens[i]),
            block,
          );
          const [rows, vectors] = [found.tokens.data as Float32Array, found.vector.data as Float32Array];
          for (const [r, i] of at.entries()) {
            const own = Math.min(keep, lengths[i]);
            const start = r * found.length * width;
            each({
              at: from + i,
              ids: tokens[i].ids.slice(0, own),
              tokens: rows.slice(start, start + own * width),
              vector: vectors.slice(r * dimensions, (r + 1) * dimensions),
            });
          }
          done += at.length;
          onProgress?.({ stage, done, total: texts.length, unit: 'texts' });
        }
      }
    },
    dispose: () => session.release(),
  };
}

/** Texts tokenised at a time: enough for sorting by length. */
const CHUNK = 1024;

/** Token vectors and the vector of the text as a graph's two outputs. */
function appendOutputs(
  graph: Graph,
  hidden: Value,
  head: Parameters<typeof applyHead>[2],
  projection: Tensor<'float32'> | undefined,
): void {
  const states = hidden.dtype === 'float32' ? new Expr(graph, hidden) : new Expr(graph, hidden).cast('float32');
  const mask = graph.inputs.find((v) => v.name === 'attention_mask') as Value;
  const shown = new Expr(graph, mask);
  const vector = applyHead(states, mask.dtype === 'int64' ? shown : shown.cast('int64'), {
    ...head,
    includePrompt: true,
  }).op('Identity');
  const mapped = projection && states.matmul(new Expr(graph, graph.constant(projection, 'token_projection')));
  const tokens = (mapped ? mapped.l2Normalize() : states).op('Identity');
  tokens.value.name = TOKENS;
  vector.value.name = VECTOR;
  graph.setOutputs(tokens.value, vector.value);
  graph.prune();
}
