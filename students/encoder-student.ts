/** @file The student that is an encoder cut to chosen layers; its graph stays as its exporter wrote it, in float32. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { Expr } from '../engine/expressions/expr.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import { castFloat } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { chosenLayers, findLayers, keepLayers } from '../engine/passes/layers.ts';
import { halfToFloat32 } from '../engine/passes/normalize.ts';
import { configWithLayers } from '../models/checkpoint.ts';
import { appendHead, checkVocabulary, encoderOutput, isPooled } from '../models/encoder-graph.ts';
import { firstPosition, readModelFolder } from '../models/model-folder.ts';
import { endsInUnit, isLinear, isPlain, withHeadWeights, withMap, withUnit } from '../models/modules/head.ts';
import { withPrompt } from '../models/modules/prompts.ts';
import { isDotProduct, positionsIn, readSentenceFolder, type SentenceOptions } from '../models/sentence-folder.ts';
import { checkTrainable } from '../models/trainability.ts';
import { type ArchitectureOptions, applyArchitecture, type Rewritten } from './architectures/index.ts';
import { mapped, PROJECTION, type Student, withWeights } from './student.ts';

export interface StudentOptions extends SentenceOptions {
  layers?: readonly number[];
  /** How its layers are rewritten, after those that are kept are joined. */
  architecture?: readonly ArchitectureOptions[];
  /** Whether it is only written again: then no step must be able to compare its vectors. */
  onlySaved?: boolean;
}

/** @throws InputError where files are missing, layers do not exist or the model cannot be trained */
export async function loadStudent(folder: string, options: StudentOptions = {}): Promise<Student> {
  const files = await readModelFolder(folder);
  const said = await readSentenceFolder(files, options);
  const { head, prompts, similarity } = said;
  const tokenizer = await TextTokenizer.load(files.folder, { lowerCase: said.lowerCase });
  const graph = await loadGraph(files.model);
  checkVocabulary(graph, tokenizer, folder);
  const hidden = encoderOutput(graph, files.model, existsSync(join(files.folder, 'modules.json')));
  if (!options.onlySaved && similarity !== 'cosine' && !isDotProduct(head, similarity))
    throw new InputError({
      code: 'student.similarity',
      subject: `${folder} compares vectors by their ${similarity} distance`,
      expected: 'cosine or dot',
      remedy: 'losses multiply vectors: set student.normalize to true (cosine) or false (dot product)',
    });
  if (!options.onlySaved && !head.includePrompt && (prompts.query.before || prompts.document.before))
    throw new InputError({
      code: 'student.include-prompt',
      subject: `${folder} leaves the tokens of its prompts out of the pooling (include_prompt is false)`,
      remedy: "train it without prompts (student.prompts: { query: '', document: '' }) or choose another student",
    });
  graph.setOutputs(hidden);
  graph.prune();
  plainInputs(graph, files.model, firstPosition(files.config));
  // Weights are trained and saved in float32; an export writes float16 again.
  halfToFloat32(graph);
  checkTrainable(graph, files.model);
  // The map of a query tower that was trained before is a weight like others; a new one gets the name.
  for (const v of graph.constants) if (v.name === PROJECTION) v.name = graph.freshName(`earlier_${PROJECTION}`);
  const kept = options.layers && chosenLayers(options.layers, findLayers(graph).length);
  if (kept) keepLayers(graph, kept);
  const rewritten = options.architecture ? await applyArchitecture(graph, options.architecture) : undefined;
  const observed = rewritten && withStatistics(graph, rewritten);
  const normalize = similarity === 'cosine' || endsInUnit(head);
  const ready = isPooled(hidden);
  // A student is trained without prompts where they are left out of the pooling: nothing is hidden from it.
  const whole = { ...head, includePrompt: true };
  const inGraph = ready || !isPlain(whole);
  const headed = (g: Graph): Graph => (inGraph ? withHead(g, withUnit(whole, false), files.model) : g);
  const tokens = (role: 'query' | 'document') => (text: string, limit: number) =>
    tokenizer.encode(withPrompt(prompts[role], text), limit);
  return {
    ...said,
    folder: files,
    tokenizer,
    graph: headed(graph),
    ...(observed && { observed: headed(observed) }),
    pooling: inGraph ? 'none' : head.pooling[0],
    normalize,
    positions: positionsIn(graph, files.config),
    maxLength: Math.min(files.maxLength ?? UNLIMITED, tokenizer.modelMaxLength ?? UNLIMITED),
    config: { ...configWithLayers(files.config, kept?.length), ...rewritten?.config },
    queryTokens: tokens('query'),
    documentTokens: tokens('document'),
    inferenceGraph(weights) {
      const copy = withWeights(graph, weights);
      const projection = weights.get(PROJECTION);
      // Pooling by an average is linear: the projection of the token vectors is that of what is pooled.
      return projection && isLinear(head) && !ready ? mapped(copy, castFloat(projection, 'float32'), PROJECTION) : copy;
    },
    headWith(weights) {
      const own = withHeadWeights(head, weights);
      const projection = weights.get(PROJECTION);
      if (!projection || (isLinear(head) && !ready)) return own;
      if (ready)
        throw new InputError({
          code: 'student.projection',
          subject: `${files.model} pools by itself: nothing can be put behind it`,
          remedy: 'export it with token vectors (last_hidden_state), or use an embedder of the same width',
        });
      return withMap(own, castFloat(projection, 'float32'));
    },
  };
}

const UNLIMITED = 512;

/** The graph with its head inside: one vector a text comes out, and what losses read of its layers. */
function withHead(graph: Graph, head: Student['head'], file: string): Graph {
  const copy = graph.clone();
  const [hidden, ...others] = copy.outputs;
  copy.setOutputs(hidden);
  appendHead(copy, head, file, true, others);
  return copy;
}

/** A copy with what losses read of its layers as further outputs; the graph itself keeps none of it. */
function withStatistics(graph: Graph, { statistics }: Rewritten): Graph | undefined {
  const [hidden] = graph.outputs;
  const named = Object.entries(statistics);
  for (const [name, v] of named) v.name = graph.freshName(name);
  graph.setOutputs(hidden, ...named.map(([, v]) => v));
  const copy = graph.clone();
  graph.setOutputs(hidden);
  graph.prune();
  return named.length ? copy : undefined;
}

/**
 * Leaves a graph the inputs that every loader fills, in int64: ids, mask and types. Positions are counted inside.
 * @throws InputError where its sizes are fixed, or padding cannot be hidden from it
 */
function plainInputs(graph: Graph, file: string, first: number): void {
  const refuse = (subject: string, remedy: string): InputError =>
    new InputError({ code: 'student.input', subject: `${file} ${subject}`, remedy });
  const ids = graph.inputs.find((v) => v.name === 'input_ids');
  if (!ids) throw refuse('has no input input_ids', 'export a text encoder');
  if (ids.dims?.some((d) => typeof d === 'number' && d > 0))
    throw refuse(
      `takes texts of one size alone, [${ids.dims.join(', ')}]`,
      'export it with dynamic axes for batch and sequence',
    );
  const mixes = graph.nodes.some((n) => /^(Softmax|.*Attention)$/.test(n.op));
  if (mixes && !graph.inputs.some((v) => v.name === 'attention_mask'))
    throw refuse('has no attention_mask: it would read the padding of a batch', 'export it with attention_mask');
  for (const v of [...graph.inputs]) {
    if (v.name === 'position_ids') replaceInput(graph, v, positions(graph, ids, first, v.dtype === 'int32'));
    else if (v.dtype === 'int32') {
      v.dtype = 'int64';
      const readers = [...v.readers];
      const cast = new Expr(graph, v).cast('int32').value;
      for (const node of readers) node.replaceInput(v, cast);
    }
  }
  graph.sort();
}

/** Positions of [B, L] tokens, counted from `first`; families that count from their padding leave padding out. */
function positions(graph: Graph, ids: Value, first: number, narrow: boolean): Value {
  const mask = graph.inputs.find((v) => v.name === 'attention_mask');
  const one = new Expr(graph, graph.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(1n) }));
  const axis = new Expr(graph, graph.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(1n) }));
  const before = new Expr(
    graph,
    graph.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(first - 1)) }),
  );
  const all = new Expr(graph, ids).cast('int64');
  const ones = all.sub(all).add(one);
  const shown = first > 0 && mask ? new Expr(graph, mask).cast('int64') : undefined;
  const counted = (shown ?? ones).op('CumSum', [axis]);
  const places = (shown ? counted.mul(shown) : counted).add(before);
  return (narrow ? places.cast('int32') : places).value;
}

function replaceInput(graph: Graph, old: Value, by: Value): void {
  graph.replace(old, by);
  graph.removeInput(old);
}
