/**
 * @file A cross-encoder cut at a layer: below, query and document are read alone, so that a document's states can be stored; above,
 * both are joined. With the cut at the bottom it is the whole model.
 */
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { lengthBatches, padBatch } from '../../data/batches.ts';
import type { PairLimits, Tokens } from '../../data/tokenizer.ts';
import { floatsOf, type Tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { halfToFloat32 } from '../../engine/passes/normalize.ts';
import { cutSegments, HIDDEN, layerCount, PREVIOUS } from '../../engine/passes/segments.ts';
import { batchTokens, Session, type SessionOptions } from '../../engine/runtime/session.ts';
import { tokenInputs } from '../../models/encoder-graph.ts';
import { describeClassifier } from '../reading/describe.ts';

export interface SplitOptions extends Pick<PairLimits, 'maxQuery' | 'maxDocument' | 'maxLength'> {
  session?: SessionOptions;
  /**
   * Position of a document's first token, which does not depend on the query any more: about the tokens of a query with its special
   * tokens; 16 by default.
   */
  documentStart?: number;
}

/** States of a text below the cut. */
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
  /** Logits of documents by their states, for a query that is read alone below the cut. */
  score(query: string, documents: readonly SplitStates[], watch?: RunControl): Promise<Float32Array>;
  /** Logits of pairs that are read together from the bottom: those of the whole model. */
  whole(query: string, documents: readonly string[], watch?: RunControl): Promise<Float32Array>;
  dispose(): Promise<void>;
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
): Promise<SplitCrossEncoder> {
  const { session, documentStart = 16, ...limited } = options;
  const { files, tokenizer, plan, limits, output, key } = await describeClassifier(folder, limited);
  const refuse = (subject: string, remedy: string): InputError =>
    new InputError({ code: 'split.model', subject: `${files.model} ${subject}`, remedy });
  if (!plan.masked || plan.rows !== undefined || plan.length !== undefined)
    throw refuse('takes no mask, or batches of one size', 'export it with attention_mask and dynamic axes');
  const graph = await loadGraph(files.model);
  halfToFloat32(graph);
  graph.setOutputs(graph.outputs.find((v) => v.name === output.port.name) ?? graph.outputs[0]);
  graph.prune();
  const layers = layerCount(graph);
  const [lower, upper] = cutSegments(graph, [below]);
  // One pair says whether the tokenizer tells the texts apart.
  const pair = tokenizer.encodePair('a', 'b', limits);
  if (!pair.typeIds.includes(1) || !graph.inputs.some((v) => v.name === 'token_type_ids'))
    throw refuse('has no token types, which say where a document begins', 'use a cross-encoder of the kind of BERT');
  (lower.hidden as NonNullable<typeof lower.hidden>).name = HIDDEN;
  const sessions = [
    await Session.load(lower.graph, session, `the lower layers of ${folder}`),
    await Session.load(upper.graph, session, `the upper layers of ${folder}`),
  ];
  const [low, high] = sessions;
  const most = batchTokens(session);

  /** Tokens of one side of a pair; the document's are moved to where documents begin, behind hidden padding. */
  const side = (query: string, document: string, type: 0 | 1): Tokens => {
    const { ids, typeIds } = tokenizer.encodePair(query, document, limits);
    const own = ids.filter((_, i) => typeIds[i] === type);
    return { ids: own, typeIds: new Int32Array(own.length).fill(type) };
  };
  const feedsOf = (names: readonly string[], all: Record<string, Tensor>) =>
    Object.fromEntries(names.flatMap((name) => (all[name] ? [[name, all[name]]] : [])));

  /** States of texts, each alone. @param hidden positions before a text, which nothing attends to */
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

  const probe = await statesOf([side('a', '', 0)], 0, {});
  const width = probe[0].data.length / probe[0].count;
  return {
    below,
    layers,
    width,
    key: hashParts('split', key, String(below), String(documentStart)),
    documents: (texts, watch = {}) =>
      statesOf(
        texts.map((text) => side('', text, 1)),
        documentStart,
        watch,
      ),
    async score(query, documents, watch = {}) {
      const [asked] = await statesOf([side(query, '', 0)], 0, watch);
      return joined(
        documents.map((d) => [asked, d]),
        watch,
      );
    },
    async whole(query, documents, watch = {}) {
      const tokens = documents.map((d) => tokenizer.encodePair(query, d, limits));
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
