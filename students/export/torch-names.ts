/** @file Weights under the names that Hugging Face's PyTorch models give them, where the family is known. */
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { castFloat, isFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { transposed } from './simplify.ts';

/** What stands before a layer's number, in the layer, and outside the layers. */
interface Family {
  layer: string;
  inside: readonly string[];
  outside: readonly string[];
}

const both = (...names: string[]): string[] => names.flatMap((n) => [`${n}.weight`, `${n}.bias`]);
const bert: Family = {
  layer: 'encoder.layer.',
  inside: both(
    'attention.self.query',
    'attention.self.key',
    'attention.self.value',
    'attention.output.dense',
    'attention.output.LayerNorm',
    'intermediate.dense',
    'output.dense',
    'output.LayerNorm',
  ),
  outside: [
    'embeddings.word_embeddings.weight',
    'embeddings.position_embeddings.weight',
    'embeddings.token_type_embeddings.weight',
    ...both('embeddings.LayerNorm'),
  ],
};
const words = (f: Family): string[] => f.outside.filter((n) => !n.includes('token_type'));

/** By `model_type` of config.json. */
const families: Readonly<Record<string, Family>> = {
  bert,
  roberta: bert,
  'xlm-roberta': bert,
  camembert: bert,
  distilbert: {
    layer: 'transformer.layer.',
    inside: both(
      'attention.q_lin',
      'attention.k_lin',
      'attention.v_lin',
      'attention.out_lin',
      'sa_layer_norm',
      'ffn.lin1',
      'ffn.lin2',
      'output_layer_norm',
    ),
    outside: words(bert),
  },
  mpnet: {
    layer: 'encoder.layer.',
    inside: both(
      'attention.attn.q',
      'attention.attn.k',
      'attention.attn.v',
      'attention.attn.o',
      'attention.LayerNorm',
      'intermediate.dense',
      'output.dense',
      'output.LayerNorm',
    ),
    outside: [...words(bert), 'encoder.relative_attention_bias.weight'],
  },
};

export type NamedWeights = { weights: Map<string, Tensor> } | { problem: string };

/**
 * The weights of a graph as its family's PyTorch class names them. Exporters keep the names of biases, norms and tables
 * and lose those of matrices: a matrix is named by the bias that is added to its product, and is turned back to [out, in].
 * Layers are numbered anew, as they come.
 *
 * @param graph with its constants as stored
 * @param type `model_type` of config.json
 */
export function huggingFaceWeights(graph: Graph, type: string): NamedWeights {
  const family = Object.hasOwn(families, type) ? families[type] : undefined;
  if (!family) return { problem: `names of the family '${type}' are not known` };
  const found = new Map<string, Tensor>();
  const note = (name: string, t: Tensor): void => {
    const own = ownName(name, family);
    if (own && !found.has(own)) found.set(own, isFloat(t.dtype) ? castFloat(t, 'float32') : t);
  };
  const matrices = new Set<Value>();
  const others: string[] = [];
  for (const node of graph.nodes) {
    const [, weight] = node.inputs;
    if (node.op !== 'MatMul' || weight?.constant?.dims.length !== 2 || !isFloat(weight.dtype)) continue;
    matrices.add(weight);
    const sum = [...node.outputs[0].readers].find((n) => n.op === 'Add');
    const bias = sum?.inputs.find((v) => v?.constant && v.name.endsWith('.bias'));
    const own = bias && `${bias.name.slice(0, -5)}.weight`;
    if (own) note(own, transposed(castFloat(weight.constant, 'float32')));
    if (!own || !ownName(own, family)) others.push(weight.name);
  }
  for (const v of graph.constants)
    if (v.constant && isFloat(v.constant.dtype) && !matrices.has(v)) note(v.name, v.constant);
  const layers = [...new Set([...found.keys()].map((n) => layerOf(n, family)).filter((n) => n >= 0))];
  layers.sort((a, b) => a - b);
  const weights = new Map<string, Tensor>();
  const missing: string[] = [];
  const take = (from: string, to: string): void => {
    const t = found.get(from);
    if (t) weights.set(to, t);
    else missing.push(from);
  };
  for (const name of family.outside) take(name, name);
  for (const [k, old] of layers.entries())
    for (const name of family.inside) take(`${family.layer}${old}.${name}`, `${family.layer}${k}.${name}`);
  if (others.length) return { problem: `the family has no matrix '${others[0]}'` };
  if (!layers.length) return { problem: 'its weights do not have the names of the family' };
  if (missing.length) return { problem: `${missing.length} weights were not found, ${missing[0]} first` };
  return { weights };
}

/** A name without what stands before the encoder in it (`m.`, `bert.`, `0.auto_model.`). */
function ownName(name: string, family: Family): string | undefined {
  const starts = [family.layer, 'embeddings.', 'encoder.relative_attention_bias.'];
  const at = starts.map((s) => name.search(new RegExp(`(^|\\.)${s.replaceAll('.', '\\.')}`))).filter((i) => i >= 0);
  if (!at.length) return undefined;
  const from = Math.min(...at);
  return name.slice(name[from] === '.' ? from + 1 : from);
}

function layerOf(name: string, family: Family): number {
  return name.startsWith(family.layer) ? Number.parseInt(name.slice(family.layer.length), 10) : -1;
}
