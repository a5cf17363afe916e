/** @file Writes the files that give a model's modules, prompts, similarity and limits to sentence-transformers. */
import type { Pooling } from '../../engine/expressions/pooling.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { activationPath } from './activations.ts';
import type { Head, HeadModule, Similarity } from './head.ts';
import { type Prompts, promptsConfig } from './prompts.ts';

export interface SentenceModel {
  head: Head;
  prompts?: Prompts;
  similarity: Similarity;
  /** Width of the token vectors. */
  tokenWidth: number;
  /** Tokens a text, special tokens included. */
  maxLength: number;
  lowerCase?: boolean;
}

/** By their path in the model's folder. */
export function sentenceFiles(model: SentenceModel): Map<string, string | Uint8Array> {
  const { head, prompts, similarity, maxLength, lowerCase = false } = model;
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const files = new Map<string, string | Uint8Array>();
  const listed = [module(0, '', 'Transformer'), module(1, '1_Pooling', 'Pooling')];
  files.set('1_Pooling/config.json', json(poolingConfig(head, model.tokenWidth)));
  for (const m of head.modules) {
    const idx = listed.length;
    const path = m.kind === 'normalize' ? `${idx}_Normalize` : m.path;
    listed.push(module(idx, path, { dense: 'Dense', 'layer-norm': 'LayerNorm', normalize: 'Normalize' }[m.kind]));
    if (m.kind === 'normalize') continue;
    files.set(`${path}/config.json`, json(moduleConfig(m)));
    const part = m.kind === 'dense' ? 'linear' : 'norm';
    const weights = new Map<string, Tensor>([[`${part}.weight`, m.weight]]);
    if (m.bias) weights.set(`${part}.bias`, m.bias);
    files.set(`${path}/model.safetensors`, encodeSafetensors(weights, { format: 'pt' }));
  }
  files.set('modules.json', json(listed));
  files.set('sentence_bert_config.json', json({ max_seq_length: maxLength, do_lower_case: lowerCase }));
  files.set(
    'config_sentence_transformers.json',
    json({ ...(prompts && promptsConfig(prompts)), similarity_fn_name: similarity }),
  );
  return files;
}

/** Type names that every version of sentence-transformers knows. */
const module = (idx: number, path: string, type: string) => ({
  idx,
  name: String(idx),
  path,
  type: `sentence_transformers.models.${type}`,
});

const moduleConfig = (m: Exclude<HeadModule, { kind: 'normalize' }>): Record<string, unknown> =>
  m.kind === 'layer-norm'
    ? { dimension: m.weight.dims[0] }
    : {
        in_features: m.weight.dims[1],
        out_features: m.weight.dims[0],
        bias: m.bias !== undefined,
        activation_function: activationPath(m.activation),
      };

/** The order in which older versions join poolings. */
const joined: readonly Pooling[] = ['cls', 'max', 'mean', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'];

/** Old keys where they suffice, since every version reads them. */
function poolingConfig({ pooling, includePrompt }: Head, width: number): Record<string, unknown> {
  const prompt = includePrompt ? {} : { include_prompt: false };
  if (String(pooling) !== String(joined.filter((p) => pooling.includes(p))))
    return { embedding_dimension: width, pooling_mode: pooling, ...prompt };
  return {
    word_embedding_dimension: width,
    pooling_mode_cls_token: pooling.includes('cls'),
    pooling_mode_mean_tokens: pooling.includes('mean'),
    pooling_mode_max_tokens: pooling.includes('max'),
    pooling_mode_mean_sqrt_len_tokens: pooling.includes('mean_sqrt_len_tokens'),
    // Versions before 2.3 do not know these keys.
    ...(pooling.includes('weightedmean') ? { pooling_mode_weightedmean_tokens: true } : {}),
    ...(pooling.includes('lasttoken') ? { pooling_mode_lasttoken: true } : {}),
    ...prompt,
  };
}
