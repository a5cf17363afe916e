/**
 * @file A cross-encoder cut at a layer: below, query and document are read alone, so that a document's states can be stored; above,
 * both are joined. With the cut at the bottom it is the whole model.
 */
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { lengthBatches, padBatch } from '../../data/batches.ts';
import type { PairLimits, Tokens } from '../../data/tokenizer.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { floatsOf, type Tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { cutSegments, HIDDEN, layerCount, PREVIOUS } from '../../engine/passes/segments.ts';
import { batchTokens, Session, type SessionOptions } from '../../engine/runtime/session.ts';
import { tokenInputs } from '../../models/encoder-graph.ts';
import { modelHash } from '../../models/model-folder.ts';
import { describeClassifier, type FolderReading, pairTokens, readFolder } from '../reading/describe.ts';
import { logitGraph } from '../reading/logit-graph.ts';
import { readSplit, type SplitFile, splitGraphs } from '../reading/split-file.ts';
import { splitTexts } from './split-texts.ts';

/** Where documents begin unless it is said: about the tokens of a query with its special tokens. */
export const DOCUMENT_START = 16;

export interface SplitOptions extends Pick<PairLimits, 'maxQuery' | 'maxDocument' | 'maxLength'> {
  session?: SessionOptions;
  /** Position of a document's first token, which does not depend on the query any more; DOCUMENT_START by default. */
  documentStart?: number;
}

/** States of a text below the cut: what a re-ranker stores of a document. */
export interface SplitStates {
  /** Tokens. */
  count: number;
  /** [count, width] */
  data: Float32Array;
}

export interface SplitCrossEncoder {
  /** Layers below the cut, and of the whole model. */
  readonly below: number;
  readonly layers: number;
  readonly width: number;
  /** Of the model, the cut and the limits: equal keys give equal states. */
  readonly key: string;
  /** States of documents alone, which do not depend on any query. */
  documents(texts: readonly string[], watch?: RunControl): Promise<SplitStates[]>;
  /**
   * Logits of documents by their states, for a query that is read alone below the cut.
   * @throws InputError where states are not of this model's width
   */
  score(query: string, documents: readonly SplitStates[], watch?: RunControl): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** One that was cut and not trained, whose layers can still read both texts together. */
export interface CutCrossEncoder extends SplitCrossEncoder {
  /** Logits of pairs that are read together from the bottom: those of the whole model. */
  whole(query: string, documents: readonly string[], watch?: RunControl): Promise<Float32Array>;
}

/**
 * @param below layers that documents and queries run through alone, from 1 to one less than the model has
 * @throws InputError where there is no such layer, or the model is not one with token types and a single logit
 * @source precomputing transformer term representations: MacAvaney et al. 2020 (arXiv 2004.14255)
 */
export async function splitCrossEncoder(
  folder: string,
  below: number,
  options: SplitOptions = {},
): Promise<CutCrossEncoder> {
  const { session, documentStart = DOCUMENT_START, ...limited } = options;
  const reading = await describeClassifier(folder, limited);
  const graph = await logitGraph(reading);
  const layers = layerCount(graph);
  const [lower, upper] = splitSegments(graph, below);
  const { query, document } = reading.own;
  const facts = { below, layers, documentStart, prompts: { query, document }, ...reading.limits };
  const key = hashParts('split', reading.key, String(below), String(documentStart));
  return openGraphs({ lower, upper, reading, facts, key, folder }, session);
}

/** The graphs below and above a cut, the first with the output HIDDEN. */
export function splitSegments(graph: Graph, below: number): [Graph, Graph] {
  const layers = layerCount(graph);
  if (below >= layers)
    throw new InputError({
      code: 'split.layers',
      subject: `a cut after layer ${below} of ${layers}`,
      expected: layers > 1 ? `a whole number from 1 to ${layers - 1}` : 'a model of two layers or more',
      remedy: 'leave at least one layer above the cut',
    });
  const [lower, upper] = cutSegments(graph, [below]);
  (lower.hidden as NonNullable<typeof lower.hidden>).name = HIDDEN;
  return [lower.graph, upper.graph];
}

/**
 * Opens a folder that `distill split` made. Its limits are those that it was trained with.
 * @throws InputError where split.json or a graph is missing or not understood
 */
export async function openSplit(folder: string, session?: SessionOptions): Promise<SplitCrossEncoder> {
  const facts = await readSplit(folder);
  const files = splitGraphs(folder);
  const { maxLength, maxQuery, maxDocument } = facts;
  const reading = await readFolder(files.below, { maxLength, maxQuery, maxDocument });
  if (reading.limits.maxLength < maxLength)
    throw new InputError({
      code: 'split.file',
      subject: `${folder} says that ${maxLength} tokens are read, and its graph reads ${reading.limits.maxLength}`,
      remedy: 'make the folder again with distill split',
    });
  const [lower, upper] = [await loadGraph(files.below), await loadGraph(files.above)];
  const has = (graph: Graph, input: string, output: string): boolean =>
    graph.inputs.some((v) => v.name === input) && graph.outputs.some((v) => v.name === output);
  for (const [graph, file, input, output] of [
    [lower, files.below, 'input_ids', HIDDEN],
    [upper, files.above, PREVIOUS, 'logits'],
  ] as const)
    if (!has(graph, input, output))
      throw new InputError({
        code: 'split.file',
        subject: `${file} has the inputs ${graph.inputs.map((v) => v.name).join(', ')} and the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
        expected: `the input ${input} and the output ${output}`,
        remedy: 'make the folder again with distill split',
      });
  const [below, above] = [await modelHash(files.below), await modelHash(files.above)];
  const key = hashParts('split', below, above, reading.tokenizer.hash, JSON.stringify(facts));
  const { whole: _, ...split } = await openGraphs({ lower, upper, reading, facts, key, folder }, session);
  return split;
}

interface SplitGraphs {
  lower: Graph;
  upper: Graph;
  reading: FolderReading;
  facts: SplitFile;
  key: string;
  folder: string;
}

async function openGraphs(
  { lower, upper, reading, facts, key, folder }: SplitGraphs,
  session: SessionOptions | undefined,
): Promise<CutCrossEncoder> {
  const { tokenizer, plan, files } = reading;
  const { below, layers, documentStart, prompts } = facts;
  const tokensOf = pairTokens({ ...reading, own: prompts });
  const refuse = (subject: string, remedy: string): InputError =>
    new InputError({ code: 'split.model', subject: `${files.model} ${subject}`, remedy });
  if (!plan.masked || plan.rows !== undefined || plan.length !== undefined)
    throw refuse('takes no mask, or batches of one size', 'export it with attention_mask and dynamic axes');
  if (!lower.inputs.some((v) => v.name === 'token_type_ids'))
    throw refuse('has no token types, which say where a document begins', 'use a cross-encoder of the kind of BERT');
  const odd = [...lower.inputs, ...upper.inputs].find((v) => v.name !== PREVIOUS && v.dtype !== 'int64');
  if (odd) throw refuse(`has an input '${odd.name}' of type ${odd.dtype}`, 'export it with inputs of int64');
  const texts = splitTexts(reading, prompts, documentStart);
  const sessions = [
    await Session.load(lower, session, `the lower layers of ${folder}`),
    await Session.load(upper, session, `the upper layers of ${folder}`),
  ];
  const [low, high] = sessions;
  const most = batchTokens(session);

  const feedsOf = (names: readonly string[], all: Record<string, Tensor>) =>
    Object.fromEntries(names.flatMap((name) => (all[name] ? [[name, all[name]]] : [])));

  /** States of texts, each alone. @param hidden positions before a text, behind hidden padding that nothing attends to */
  async function statesOf(tokens: readonly Tokens[], hidden: number, watch: RunControl): Promise<SplitStates[]> {
    const out: SplitStates[] = Array(tokens.length);
    const moved = tokens.map(({ ids, typeIds }) => ({
      ids: Int32Array.from([...new Array(hidden).fill(tokenizer.padId), ...ids]),
      typeIds: Int32Array.from([...new Array(hidden).fill(0), ...typeIds]),
    }));
    for (const at of lengthBatches(
      moved.map((t) => t.ids.length),
      most,
    )) {
      watch.signal?.throwIfAborted();
      const block = padBatch(
        at.map((i) => moved[i]),
        tokenizer.padId,
      );
      for (let r = 0; r < at.length; r++) block.mask.fill(0n, r * block.length, r * block.length + hidden);
      const found = (await low.run(feedsOf(low.inputs, tokenInputs(block))))[HIDDEN];
      const data = floatsOf(found);
      const width = found.dims[2];
      for (const [r, i] of at.entries()) {
        const start = (r * block.length + hidden) * width;
        const count = tokens[i].ids.length;
        out[i] = { count, data: data.slice(start, start + count * width) };
      }
    }
    return out;
  }

  /** Logits of joined states. */
  async function joined(all: readonly (readonly SplitStates[])[], watch: RunControl): Promise<Float32Array> {
    const counts = all.map((parts) => parts.reduce((n, p) => n + p.count, 0));
    const scores = new Float32Array(all.length);
    for (const at of lengthBatches(counts, most)) {
      watch.signal?.throwIfAborted();
      const length = counts[at[0]];
      const data = new Float32Array(at.length * length * width);
      const block = padBatch(
        at.map((i) => ({ ids: new Int32Array(counts[i]), typeIds: new Int32Array(counts[i]) })),
        tokenizer.padId,
        { rows: at.length, length },
      );
      for (const [r, i] of at.entries()) {
        let place = r * length * width;
        for (const part of all[i]) {
          data.set(part.data, place);
          place += part.data.length;
        }
      }
      const previous = { dtype: 'float32', dims: [at.length, length, width], data } as Tensor;
      const found = await high.run({ ...feedsOf(high.inputs, tokenInputs(block)), [PREVIOUS]: previous });
      const logits = floatsOf(found[high.outputs[0]]);
      if (logits.length !== at.length)
        throw refuse(`gives ${logits.length / at.length} numbers a pair`, 'use a cross-encoder with one logit');
      for (const [r, i] of at.entries()) scores[i] = logits[r];
    }
    return scores;
  }

  const probe = await statesOf([texts.query('a')], 0, {});
  const width = probe[0].data.length / probe[0].count;
  return {
    below,
    layers,
    width,
    key,
    documents: (documents, watch = {}) => statesOf(documents.map(texts.document), documentStart, watch),
    async score(query, documents, watch = {}) {
      const at = documents.findIndex(
        (d) => !(Number.isInteger(d?.count) && d.count > 0) || d.data?.length !== d.count * width,
      );
      if (at >= 0)
        throw new InputError({
          code: 'split.states',
          subject: `states at place ${at} of ${documents[at]?.count} tokens with ${documents[at]?.data?.length} numbers`,
          expected: `${width} numbers a token, as ${folder} gives them`,
          remedy: 'compute the states of the documents again with this model',
        });
      const [asked] = await statesOf([texts.query(query)], 0, watch);
      return joined(
        documents.map((d) => [asked, d]),
        watch,
      );
    },
    async whole(query, documents, watch = {}) {
      const tokens = documents.map((document) => tokensOf({ query, document }));
      const states = await statesOf(tokens, 0, watch);
      return joined(
        states.map((s) => [s]),
        watch,
      );
    },
    async dispose() {
      for (const one of sessions) await one.release();
    },
  };
}
