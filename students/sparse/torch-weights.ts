/** @file A sparse student's weights as PyTorch's masked-language model names them. */
import { castFloat, type Tensor } from '../../engine/graph/tensor.ts';
import { transposed } from '../export/simplify.ts';
import { huggingFaceWeights } from '../export/torch-names.ts';
import { type Student, type Weights, withWeights } from '../student.ts';
import { HEAD } from './sparse-student.ts';

/** Weights and config.json of BertForMaskedLM, or why they are not given. */
export type MaskedModel = { weights: Map<string, Tensor>; config: Record<string, unknown> } | { problem: string };

/** @param weights trained, by their names in the student's graph */
export function maskedModel({ sparse, config, graph }: Student, weights: Weights): MaskedModel {
  const type = String(config.model_type);
  // Other families have other heads; the head here is that of BertForMaskedLM.
  if (type !== 'bert') return { problem: `its family '${type}' is not bert, whose head it has` };
  if (config.hidden_act !== undefined && config.hidden_act !== 'gelu')
    return { problem: `its activation is '${config.hidden_act}', and its head's is gelu` };
  if (!sparse) return { problem: 'it is not sparse' };
  const named = huggingFaceWeights(withWeights(sparse.encoder, weights), type);
  if ('problem' in named) return named;
  const all = new Map([...named.weights].map(([name, t]): [string, Tensor] => [`bert.${name}`, t]));
  const trained = withWeights(graph, weights);
  const own = (name: string): Tensor<'float32'> =>
    castFloat(trained.constants.find((v) => v.name === name)?.constant as Tensor, 'float32');
  all.set(HEAD.dense, transposed(own(HEAD.dense)));
  for (const name of [HEAD.denseBias, HEAD.scale, HEAD.shift]) all.set(name, own(name));
  const bias = (weights.get(HEAD.bias) ?? sparse.bias) as Tensor<'float32'>;
  all.set(HEAD.bias, { dtype: 'float32', dims: [bias.data.length], data: bias.data });
  const { pooler: _, ...rest } = config;
  return { weights: all, config: { ...rest, architectures: ['BertForMaskedLM'], tie_word_embeddings: true } };
}
