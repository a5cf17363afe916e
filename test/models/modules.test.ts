/** @file Folders of sentence-transformers, module by module: vectors equal Python's, and what is not known is refused. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { Random } from '../../math/random.ts';
import { Encoder, type EncoderOptions } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { huggingFaceWeights } from '../../students/export/torch-names.ts';
import { pythonWith, runPython } from '../python.ts';
import { shared } from '../shared.ts';

const texts = [
  'how to install a kernel module',
  'Open Files',
  'a',
  'the kernel said nothing, and nothing was installed at all in any of the files',
  'MODULE files open',
  '',
];
const WIDTH = 16;
const root = mkdtempSync(join(tmpdir(), 'modules-'));
const base = join(root, 'base');

/** `upper`: a vocabulary with capitals, so that lower case shows. */
beforeAll(async () => {
  const all = [...texts, 'query passage search Q P :'];
  await freshModel(
    base,
    { length: all.length, text: (i) => all[i] },
    { vocabulary: 200, hidden: WIDTH, maxLength: 24 },
  );
  const named = huggingFaceWeights(await loadGraph(join(base, 'onnx/model.onnx')), 'bert');
  if ('problem' in named) throw new Error(named.problem);
  writeFileSync(join(base, 'model.safetensors'), encodeSafetensors(named.weights, { format: 'pt' }));
});

const random = Random.of(3, 'modules');
const numbers = (...dims: number[]): Tensor => ({
  dtype: 'float32',
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random.normal() / 3),
});

type Files = Record<string, unknown>;
const old = (type: string): string => `sentence_transformers.models.${type}`;
const list = (...types: [path: string, type: string][]): unknown =>
  types.map(([path, type], idx) => ({ idx, name: String(idx), path, type }));
const start: [string, string][] = [
  ['', old('Transformer')],
  ['1_Pooling', old('Pooling')],
];
const flag = (...modes: string[]): unknown =>
  Object.fromEntries([['word_embedding_dimension', WIDTH], ...modes.map((m) => [`pooling_mode_${m}`, true])]);
const dense = (path: string, from: number, to: number, activation?: string, bias = true): Files => ({
  [`${path}/config.json`]: {
    in_features: from,
    out_features: to,
    bias,
    ...(activation && { activation_function: activation }),
  },
  [`${path}/model.safetensors`]: encodeSafetensors(
    new Map([['linear.weight', numbers(to, from)], ...(bias ? [['linear.bias', numbers(to)] as const] : [])]),
  ),
});

/** A folder like `base` with other files. */
function folder(name: string, files: Files): string {
  const path = join(root, name);
  rmSync(path, { recursive: true, force: true });
  cpSync(base, path, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), content instanceof Uint8Array ? content : JSON.stringify(content));
  }
  return path;
}

const pooled = (modes: string[]): Files => ({
  'modules.json': list(...start),
  '1_Pooling/config.json': flag(...modes),
});
const activated = (name: string): Files => ({
  'modules.json': list(...start, ['2_Dense', old('Dense')]),
  '1_Pooling/config.json': flag('mean_tokens'),
  ...dense('2_Dense', WIDTH, 9, name),
});
/** A Dense behind the other, each with its own activation. */
const chain = (names: string): Files => {
  const each = names.split(' ').map((name, i): [string, string] => [`${2 + i}_Dense`, name]);
  return {
    'modules.json': list(...start, ...each.map(([path]): [string, string] => [path, old('Dense')])),
    '1_Pooling/config.json': flag('mean_tokens'),
    ...Object.assign(
      {},
      ...each.map(([path, name]) => dense(path, WIDTH, WIDTH, `torch.nn.modules.activation.${name}`)),
    ),
  };
};
const newPooling = (mode: unknown, more: object = {}): Files => ({
  'modules.json': list(
    ['', 'sentence_transformers.base.modules.transformer.Transformer'],
    ['1_Pooling', 'sentence_transformers.sentence_transformer.modules.pooling.Pooling'],
    ['2_Normalize', 'sentence_transformers.sentence_transformer.modules.normalize.Normalize'],
  ),
  '1_Pooling/config.json': { embedding_dimension: WIDTH, pooling_mode: mode, include_prompt: true, ...more },
});
const prompts = { query: 'query : ', document: 'passage : ' };

/** Every kind of folder, made when a test runs. */
const kinds: Record<string, () => Files> = {
  mean: () => pooled(['mean_tokens']),
  cls: () => pooled(['cls_token']),
  max: () => pooled(['max_tokens']),
  sqrt: () => pooled(['mean_sqrt_len_tokens']),
  weighted: () => pooled(['weightedmean_tokens']),
  last: () => pooled(['lasttoken']),
  'all joined': () =>
    pooled(['cls_token', 'max_tokens', 'mean_tokens', 'mean_sqrt_len_tokens', 'weightedmean_tokens', 'lasttoken']),
  'new names': () => newPooling('weightedmean'),
  'new names, joined': () => newPooling(['mean', 'cls', 'max']),
  'Dense, default activation': () => activated(''),
  'two Dense, LayerNorm, Normalize': () => ({
    'modules.json': list(
      ...start,
      ['2_Dense', old('Dense')],
      ['3_Dense', old('Dense')],
      ['4_LayerNorm', old('LayerNorm')],
      ['5_Normalize', old('Normalize')],
    ),
    '1_Pooling/config.json': flag('mean_tokens', 'cls_token'),
    ...dense('2_Dense', 2 * WIDTH, 24, 'torch.nn.modules.linear.Identity', false),
    ...dense('3_Dense', 24, 7, 'torch.nn.modules.activation.Tanh'),
    '4_LayerNorm/config.json': { dimension: 7 },
    '4_LayerNorm/model.safetensors': encodeSafetensors(
      new Map([
        ['norm.weight', numbers(7)],
        ['norm.bias', numbers(7)],
      ]),
    ),
  }),
  'Dense of many activations': () => chain('ELU GELU Hardtanh LeakyReLU LogSigmoid'),
  'Dense of more activations': () => chain('Mish Softsign SELU SiLU Sigmoid'),
  'Dense of other activations': () => chain('Softplus Tanhshrink ReLU6 ReLU'),
  'max_seq_length 6': () => ({
    ...pooled(['mean_tokens']),
    'sentence_bert_config.json': { max_seq_length: 6, do_lower_case: false },
  }),
  do_lower_case: () => ({
    ...pooled(['mean_tokens']),
    'sentence_bert_config.json': { max_seq_length: 24, do_lower_case: true },
  }),
  prompts: () => ({
    ...pooled(['mean_tokens']),
    'config_sentence_transformers.json': { prompts, default_prompt_name: null, similarity_fn_name: 'dot' },
  }),
  'default prompt': () => ({
    ...pooled(['mean_tokens']),
    'config_sentence_transformers.json': { prompts: { ...prompts, x: 'open ' }, default_prompt_name: 'x' },
  }),
  'default prompt alone': () => ({
    ...pooled(['mean_tokens']),
    'config_sentence_transformers.json': { prompts: { x: 'open ' }, default_prompt_name: 'x' },
  }),
  'prompt left out of the pooling': () => ({
    ...newPooling(['mean', 'cls', 'max', 'weightedmean'], { include_prompt: false }),
    'config_sentence_transformers.json': { prompts, default_prompt_name: 'query' },
  }),
};

/** Those that are written again too. */
const exported = [
  'all joined',
  'new names, joined',
  'two Dense, LayerNorm, Normalize',
  'do_lower_case',
  'prompts',
  'default prompt',
  'prompt left out of the pooling',
];

const encodeAll = async (path: string, options: EncoderOptions = {}): Promise<number[][]> => {
  const encoder = await Encoder.load(path, options);
  const all: number[][] = [];
  for (const role of ['text', 'query', 'document'] as const)
    all.push([...(await encoder.encode(texts, { role })), encoder.dimensions]);
  await encoder.dispose();
  return all;
};

const python = pythonWith('sentence_transformers');
const script = `import warnings; warnings.filterwarnings('ignore')
from sentence_transformers import SentenceTransformer
def vectors(name):
    m = SentenceTransformer(f'{folder}/{name}', device='cpu')
    return [[float(x) for row in rows for x in row] + [len(rows[0])] for rows in (m.encode(texts), m.encode_query(texts), m.encode_document(texts))] + [m.similarity_fn_name]
print(json.dumps({name: vectors(name) for name in json.load(open(f'{folder}/names.json'))}))`;

const largest = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), a.length === b.length ? 0 : Number.POSITIVE_INFINITY);

test.skipIf(!python)(
  'every kind of folder, and its export: the vectors of sentence-transformers',
  { timeout: 300_000 },
  async () => {
    const names = Object.keys(kinds);
    for (const name of names) {
      const path = folder(name, kinds[name]());
      if (exported.includes(name)) await exportFolder(path, join(root, `${name} exported`), { dtypes: ['fp32'] });
    }
    const all = [...names, ...exported.map((n) => `${n} exported`)];
    writeFileSync(join(root, 'names.json'), JSON.stringify(all));
    writeFileSync(join(root, 'texts.json'), JSON.stringify(texts));
    const theirs = runPython(python as string, root, join(root, 'texts.json'), script) as Record<string, number[][]>;
    for (const name of all) {
      const ours = await encodeAll(join(root, name));
      for (const [i, role] of ['text', 'query', 'document'].entries())
        expect(largest(ours[i], theirs[name][i]), `${name}, ${role}`).toBeLessThan(1e-5);
    }
    for (const name of exported)
      for (const i of [0, 1, 2, 3]) expect(theirs[`${name} exported`][i], name).toEqual(theirs[name][i]);
  },
);

test.skipIf(!shared)('vectors that sentence-transformers gave for the folders of ../shared/cases', async () => {
  const cases = join(shared as string, 'cases/sentence-transformers-modules');
  const read = (file: string) => JSON.parse(readFileSync(join(cases, file), 'utf8'));
  for (const name of ['dense32', 'weighted', 'mean+cls', 'cased', 'prompt']) {
    const encoder = await Encoder.load(join(cases, name));
    const ours = await encoder.encode(read(name === 'cased' ? 'upper.json' : 'texts.json'));
    expect(largest([...ours], read(`${name}.json`).flat()), name).toBeLessThan(1e-5);
    await encoder.dispose();
  }
});

test.skipIf(!shared)('lower case is written into the tokenizer, for loaders that read nothing else', async () => {
  const cased = join(shared as string, 'cases/sentence-transformers-modules/cased');
  await exportFolder(cased, join(root, 'cased'), { dtypes: ['fp32'] });
  const { normalizer } = JSON.parse(readFileSync(join(root, 'cased/tokenizer.json'), 'utf8'));
  expect(normalizer.normalizers[0]).toEqual({ type: 'Lowercase' });
  const [own, written] = await Promise.all([cased, join(root, 'cased')].map((f) => encodeAll(f)));
  expect(largest(own[0], written[0])).toBeLessThan(1e-6);
});

test('poolings by hand: three tokens of two numbers', async () => {
  const { pool } = await import('../../engine/expressions/pooling.ts');
  const { Expr } = await import('../../engine/expressions/expr.ts');
  const { Graph } = await import('../../engine/graph/ir.ts');
  const { Session } = await import('../../engine/runtime/session.ts');
  const { tensor } = await import('../../engine/graph/tensor.ts');
  for (const opset of [11, 14, 18, 20]) {
    const graph = new Graph(opset);
    const hidden = new Expr(graph, graph.input('hidden', 'float32', ['b', 'l', 2]));
    const mask = new Expr(graph, graph.input('mask', 'int64', ['b', 'l']));
    const modes = ['cls', 'max', 'mean', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const;
    graph.output(pool(hidden, mask, modes).value, 'out');
    const session = await Session.load(graph);
    const { out } = await session.run({
      hidden: tensor('float32', [1, 3, 2], [1, 2, 4, -2, 100, 100]),
      mask: tensor('int64', [1, 3], [1, 1, 0]),
    });
    const root2 = Math.SQRT2;
    const expected = [1, 2, 4, 2, 2.5, 0, 5 / root2, 0, 3, -2 / 3, 4, -2];
    expect(largest([...(out.data as Float32Array)], expected), `opset ${opset}`).toBeLessThan(1e-6);
    await session.release();
  }
});

describe('what is not understood is refused by its name', () => {
  const refusals: [string, Files, string][] = [
    ...['WordEmbeddings', 'CNN', 'LSTM', 'Router', 'Asym', 'WeightedLayerPooling', 'BoW', 'CLIPModel'].map(
      (type): [string, Files, string] => [
        type,
        { ...pooled(['mean_tokens']), 'modules.json': list(...start, [`2_${type}`, old(type)]) },
        `the module '${old(type)}' is not known here`,
      ],
    ),
    [
      'a class of its own',
      { ...pooled(['mean_tokens']), 'modules.json': list(...start, ['2_Dense', 'custom.Dense']) },
      "the module 'custom.Dense' is not known here",
    ],
    ['a pooling', newPooling('attention'), "the pooling 'attention' is not known"],
    ['a pooling flag', pooled(['splade']), "the pooling 'pooling_mode_splade' is not known"],
    ['no pooling', { 'modules.json': list(start[0]) }, 'it has no Pooling'],
    [
      'an activation',
      activated('torch.nn.modules.activation.PReLU'),
      "'torch.nn.modules.activation.PReLU' is not known",
    ],
    ['an activation elsewhere', activated('my.module.Tanh'), "'my.module.Tanh' is not known"],
    [
      'a Dense over tokens',
      {
        ...activated('torch.nn.modules.activation.Tanh'),
        '2_Dense/config.json': {
          in_features: WIDTH,
          out_features: 9,
          bias: true,
          module_input_name: 'token_embeddings',
        },
      },
      "this Dense has module_input_name 'token_embeddings'",
    ],
    [
      'a Dense of another width',
      { ...activated(''), ...dense('2_Dense', 7, 9, 'torch.nn.modules.activation.Tanh') },
      'the module 2_Dense takes vectors of 7 numbers',
    ],
    [
      'a similarity',
      { ...pooled(['mean_tokens']), 'config_sentence_transformers.json': { similarity_fn_name: 'maxsim' } },
      "the similarity 'maxsim' is not known",
    ],
    [
      'a default prompt',
      { ...pooled(['mean_tokens']), 'config_sentence_transformers.json': { default_prompt_name: 'x' } },
      "the default prompt 'x' is not among the prompts",
    ],
  ];
  test.each(refusals)('%s', async (name, files, message) => {
    await expect(Encoder.load(folder(`refused ${name}`, files))).rejects.toThrow(message);
  });

  test('a distance that dot products do not give is refused where vectors are compared, and given where they are not', async () => {
    const files = (fn: string): Files => ({
      ...pooled(['mean_tokens']),
      'config_sentence_transformers.json': { similarity_fn_name: fn },
    });
    for (const fn of ['euclidean', 'manhattan']) {
      const path = folder(fn, files(fn));
      const encoder = await Encoder.load(path);
      expect(encoder.similarity).toBe(fn);
      await encoder.dispose();
      await expect(Encoder.load(path, { comparable: true })).rejects.toThrow(`by their ${fn} distance`);
    }
  });
});

test('a folder without Normalize gives vectors as they are, and of unit length where they are compared by cosine', async () => {
  const path = folder('cosine', pooled(['mean_tokens']));
  const length = async (options: EncoderOptions): Promise<number> => {
    const encoder = await Encoder.load(path, options);
    expect(encoder.similarity).toBe(options.normalize === false ? 'dot' : 'cosine');
    const vector = await encoder.encode(['open files']);
    await encoder.dispose();
    return Math.hypot(...vector);
  };
  expect(await length({})).toBeGreaterThan(1.5);
  expect(await length({ comparable: true })).toBeCloseTo(1, 5);
  expect(await length({ comparable: true, normalize: false })).toBeGreaterThan(1.5);
});

test('prompts of a config override those of the folder, with the place of the text marked or not', async () => {
  const path = folder('told', kinds.prompts());
  const encode = async (options: EncoderOptions, role: 'query' | 'document', text: string): Promise<number[]> => {
    const encoder = await Encoder.load(path, options);
    const vector = await encoder.encode([text], { role });
    await encoder.dispose();
    return [...vector];
  };
  const none = { prompts: { query: '', document: '' } };
  const own = await encode({}, 'query', 'files');
  expect(await encode(none, 'query', 'query : files')).toEqual(own);
  expect(await encode({ prompts: { query: 'query : {text}' } }, 'query', 'files')).toEqual(own);
  expect(await encode({ prompts: { query: '{text} open' } }, 'query', 'files')).toEqual(
    await encode(none, 'query', 'files open'),
  );
  expect(await encode({ prompts: { query: '' } }, 'document', 'files')).toEqual(
    await encode(none, 'document', 'passage : files'),
  );
  await expect(Encoder.load(path, { prompts: { query: '{text}{text}' } })).rejects.toThrow('more than once');
});

test('a family known to need prompts that its folder does not state is named in a note', async () => {
  const notes = async (name: string, files: Files = pooled(['mean_tokens'])): Promise<readonly string[]> => {
    const encoder = await Encoder.load(folder(name, files));
    await encoder.dispose();
    return encoder.notes;
  };
  expect((await notes('e5-small-v2'))[0]).toContain(
    'family E5, whose card asks for the prompts {"query":"query: ","document":"passage: "}',
  );
  expect(await notes('e5-with-prompts', kinds.prompts())).toEqual([]);
  expect(await notes('all-minilm')).toEqual([]);
});

test.skipIf(!pythonWith('torch'))(
  'weights of a module in pytorch_model.bin, in three types of numbers',
  { timeout: 100_000 },
  async () => {
    const path = folder('torch', activated('torch.nn.modules.activation.Tanh'));
    const safe = await encodeAll(path);
    writeFileSync(join(root, 'texts.json'), '[]');
    for (const type of ['float32', 'float64', 'bfloat16']) {
      runPython(
        python as string,
        join(path, '2_Dense'),
        join(root, 'texts.json'),
        `import torch; from safetensors.torch import load_file
w = load_file(f'{folder}/model.safetensors') if os.path.exists(f'{folder}/model.safetensors') else torch.load(f'{folder}/kept.bin')
torch.save(w, f'{folder}/kept.bin'); torch.save({k: v.to(torch.${type}) for k, v in w.items()}, f'{folder}/pytorch_model.bin')
if os.path.exists(f'{folder}/model.safetensors'): os.remove(f'{folder}/model.safetensors')
print('null')`,
      );
      expect(largest((await encodeAll(path))[0], safe[0]), type).toBeLessThan(type === 'bfloat16' ? 0.05 : 1e-6);
    }
    writeFileSync(join(path, '2_Dense/pytorch_model.bin'), 'no zip');
    await expect(Encoder.load(path)).rejects.toThrow('pytorch_model.bin cannot be read (it is not a zip archive)');
  },
);
