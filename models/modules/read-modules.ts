/** @file modules.json of sentence-transformers, read module by module; what is not understood is refused by its name. */
import { existsSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { isWithin } from '../../common/files.ts';
import { type Pooling, poolings } from '../../engine/expressions/pooling.ts';
import { castFloat, identity, type Tensor } from '../../engine/graph/tensor.ts';
import { readSafetensors } from '../../engine/io/safetensors.ts';
import { type Activation, activations } from './activations.ts';
import { type DenseModule, type Head, type HeadModule, headWidth, type Similarity, similarities } from './head.ts';
import { readJson, readJsonValue } from './read-json.ts';
import { readTorchFile } from './torch-file.ts';

/** Modules that can follow each other after the transformer. */
const known = ['Transformer', 'Pooling', 'Dense', 'LayerNorm', 'Normalize'] as const;

interface Listed {
  path: string;
  type: string;
}

/**
 * The pooling and what follows it; undefined where the folder has no modules.json.
 * @throws InputError where a module, a pooling or an activation function is not known
 */
export async function readHead(folder: string): Promise<Head | undefined> {
  const file = join(folder, 'modules.json');
  if (!existsSync(file)) return undefined;
  const listed = await readJsonValue(file);
  const bad = (subject: string): InputError =>
    new InputError({
      code: 'model.module',
      subject: `${file}: ${subject}`,
      expected: 'a Transformer, a Pooling and any of Dense, LayerNorm and Normalize',
      remedy: 'use a model made of these; a vector without the other modules would be another one',
    });
  if (!Array.isArray(listed) || !listed.every((m) => typeof m?.type === 'string'))
    throw bad('it is not a list of modules');
  const modules = listed.map((m): Listed => ({ path: String(m.path ?? ''), type: m.type }));
  let pooling: Pick<Head, 'pooling' | 'includePrompt'> | undefined;
  const after: HeadModule[] = [];
  for (const [i, { path, type }] of modules.entries()) {
    if (isAbsolute(path) || !isWithin(resolve(folder), resolve(folder, path)))
      throw bad(`the module '${path}' is outside the folder`);
    const name = type.split('.').at(-1) as (typeof known)[number];
    if (!type.startsWith('sentence_transformers.') || !known.includes(name))
      throw bad(`the module '${type}' is not known here`);
    if ((name === 'Transformer') !== (i === 0)) throw bad(`module ${i} is '${type}'`);
    if (name === 'Transformer') {
      // Its configuration and tokenizer would be read there, not in the folder itself.
      if (resolve(folder, path) !== resolve(folder))
        throw bad(`its Transformer is in '${path}', not in the folder itself`);
      continue;
    }
    if (name === 'Pooling') {
      if (pooling || after.length) throw bad(`module ${i} is '${type}'`);
      const own = join(folder, path, 'config.json');
      if (!existsSync(own))
        throw bad(`its Pooling has no config.json in '${path}', which says how tokens become a vector`);
      pooling = poolingOf(await readJson(own), own);
      continue;
    }
    if (!pooling) throw bad(`module ${i} is '${type}', before any Pooling`);
    // Behind the pooling a map of the token vectors changes nothing of a text's own vector: multi-vector models have one.
    if (name === 'Dense' && (await ofTokens(folder, path))) continue;
    if (name === 'Normalize') after.push({ kind: 'normalize' });
    else if (name === 'Dense') after.push(await dense(folder, path));
    else after.push(await layerNorm(folder, path));
  }
  if (!pooling) throw bad('it has no Pooling');
  return { ...pooling, modules: after };
}

/**
 * The head with its vectors cut to `truncate_dim`, as encode does after all modules: they are not scaled again.
 * @param width of the vectors, where it is known
 * @throws InputError where it is not a whole number from 1 on, or the width is not known
 */
export function truncated(head: Head, stated: unknown, width: number | undefined, file: string): Head {
  if (stated === undefined || stated === null) return head;
  if (typeof stated !== 'number' || !Number.isInteger(stated) || stated < 1 || width === undefined)
    throw new InputError({
      code: 'model.truncate',
      subject: `${file}: truncate_dim is ${JSON.stringify(stated)}${width === undefined ? ', and the width of the vectors is not stated' : ''}`,
      expected: 'a whole number of columns',
      remedy: 'correct it, or state hidden_size in config.json',
    });
  if (stated >= width) return head;
  const map: DenseModule = {
    kind: 'dense',
    path: `${2 + head.modules.length}_Truncate`,
    weight: identity(stated, width),
    activation: 'Identity',
  };
  return { ...head, modules: [...head.modules, map], dimensions: stated };
}

/** The older keys, each true or false, in the order in which sentence-transformers joins them. */
const flags: readonly [string, Pooling][] = [
  ['pooling_mode_cls_token', 'cls'],
  ['pooling_mode_max_tokens', 'max'],
  ['pooling_mode_mean_tokens', 'mean'],
  ['pooling_mode_mean_sqrt_len_tokens', 'mean_sqrt_len_tokens'],
  ['pooling_mode_weightedmean_tokens', 'weightedmean'],
  ['pooling_mode_lasttoken', 'lasttoken'],
];

/** @throws InputError where a mode is not known */
export function poolingOf(config: Record<string, unknown>, file: string): Pick<Head, 'pooling' | 'includePrompt'> {
  const { pooling_mode: stated } = config;
  const names = stated === undefined ? [] : [stated].flat().map(String);
  const unknown = [
    ...names.filter((n) => !(poolings as readonly string[]).includes(n)),
    ...Object.keys(config).filter(
      (key) => key.startsWith('pooling_mode_') && config[key] === true && !flags.some(([flag]) => flag === key),
    ),
  ];
  if (unknown.length)
    throw new InputError({
      code: 'model.pooling',
      subject: `${file}: the pooling '${unknown[0]}' is not known`,
      expected: `any of ${poolings.join(', ')}`,
      remedy: 'use a model pooled by one of these',
    });
  const flagged = flags.filter(([flag]) => config[flag]).map(([, mode]) => mode);
  const found = names.length ? (names as Pooling[]) : flagged.length ? flagged : (['mean'] as const);
  return { pooling: found, includePrompt: config.include_prompt !== false };
}

/** Whether a Dense says that it reads and writes token vectors. */
async function ofTokens(folder: string, path: string): Promise<boolean> {
  const config = await readJson(join(folder, path, 'config.json'));
  return [config.module_input_name, config.module_output_name].every((name) => name === 'token_embeddings');
}

async function dense(folder: string, path: string): Promise<HeadModule> {
  const file = join(folder, path, 'config.json');
  const config = await readJson(file);
  const stated = config.activation_function ?? 'torch.nn.modules.activation.Tanh';
  const activation = String(stated).split('.').at(-1) ?? '';
  const refuse = (subject: string, expected: string): InputError =>
    new InputError({ code: 'model.dense', subject: `${file}: ${subject}`, expected, remedy: 'use a model without it' });
  if (!String(stated).startsWith('torch.nn.') || !Object.hasOwn(activations, activation))
    throw refuse(`the activation function '${stated}' is not known`, Object.keys(activations).join(', '));
  for (const key of ['module_input_name', 'module_output_name'])
    if (config[key] !== undefined && config[key] !== null && config[key] !== 'sentence_embedding')
      throw refuse(`this Dense has ${key} '${config[key]}'`, 'sentence_embedding');
  const weights = await moduleWeights(join(folder, path));
  const weight = need(weights, 'linear.weight', 2, join(folder, path));
  const bias = config.bias === false ? undefined : need(weights, 'linear.bias', 1, join(folder, path));
  const stating = [config.out_features ?? weight.dims[0], config.in_features ?? weight.dims[1]];
  if (String(stating) !== String(weight.dims) || (bias && bias.dims[0] !== weight.dims[0]))
    throw refuse(`its weights have the shape [${weight.dims}]`, `[${stating}], as the config says`);
  return { kind: 'dense', path, weight, bias, activation: activation as Activation };
}

async function layerNorm(folder: string, path: string): Promise<HeadModule> {
  const weights = await moduleWeights(join(folder, path));
  const at = join(folder, path);
  return {
    kind: 'layer-norm',
    path,
    weight: need(weights, 'norm.weight', 1, at),
    bias: need(weights, 'norm.bias', 1, at),
  };
}

/** As sentence-transformers looks for them: safetensors first. */
async function moduleWeights(folder: string): Promise<Map<string, Tensor>> {
  const own = join(folder, 'model.safetensors');
  if (existsSync(own)) return readSafetensors(own);
  const torch = join(folder, 'pytorch_model.bin');
  if (existsSync(torch)) return readTorchFile(torch);
  throw new InputError({
    code: 'model.missing',
    subject: `${folder} has neither model.safetensors nor pytorch_model.bin`,
    remedy: 'copy the weights of this module from the model',
  });
}

function need(weights: ReadonlyMap<string, Tensor>, name: string, rank: number, folder: string): Tensor<'float32'> {
  const found = weights.get(name);
  if (found && found.dims.length === rank) return castFloat(found, 'float32');
  throw new InputError({
    code: 'model.module-weights',
    subject: `the weights in ${folder} have no ${name} of ${rank} dimensions`,
    received: [...weights.keys()].join(', ') || 'nothing',
    remedy: 'copy the weights of this module from the model again',
  });
}

/** @throws InputError where the width of the token vectors does not fit the head */
export function checkWidths(head: Head, tokens: number, name: string): void {
  let width = headWidth({ ...head, modules: [] }, tokens);
  for (const m of head.modules) {
    if (m.kind === 'normalize') continue;
    const wanted = m.kind === 'dense' ? m.weight.dims[1] : m.weight.dims[0];
    if (wanted !== width)
      throw new InputError({
        code: 'model.module-width',
        subject: `${name}: the module ${m.path} takes vectors of ${wanted} numbers`,
        received: `${width}`,
        remedy: 'use modules and an ONNX file of the same model',
      });
    if (m.kind === 'dense') width = m.weight.dims[0];
  }
}

/**
 * How a folder compares vectors; cosine where it does not say, as sentence-transformers does.
 * @param config config_sentence_transformers.json
 */
export function similarityOf(config: Record<string, unknown>, file: string): Similarity {
  const stated = config.similarity_fn_name ?? 'cosine';
  if ((similarities as readonly unknown[]).includes(stated)) return stated as Similarity;
  throw new InputError({
    code: 'model.similarity',
    subject: `${file}: the similarity '${stated}' is not known`,
    expected: similarities.join(', '),
    remedy: 'correct similarity_fn_name',
  });
}
