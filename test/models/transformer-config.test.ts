/** @file What sentence-transformers' files say of a text's length, case, width and prompt: as its encode and predict have it, or refused. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { Encoder, type EncoderOptions } from '../../models/encoder.ts';
import { appendHead } from '../../models/encoder-graph.ts';
import { transformerFiles } from '../../models/modules/transformer-config.ts';
import { freshModel } from '../../models/new-model.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { type CrossEncoderOptions, crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';

const root = mkdtempSync(join(tmpdir(), 'transformer-config-'));
afterAll(() => rmSync(root, { recursive: true }));
const [encoder, classifier] = ['encoder', 'classifier'].map((name) => join(root, name));
const texts = ['open file list', 'Network PACKET editor', 'list process open file packet text editor open file list'];

beforeAll(async () => {
  const all = [...texts, 'find : Network PACKET editor'];
  const table = { length: all.length, text: (i: number) => all[i] };
  const options = { hidden: 16, layers: 1, heads: 2, maxLength: 24, vocabulary: 100 };
  await freshModel(encoder, table, options);
  await freshModel(classifier, table, { ...options, kind: 'cross-encoder' });
});

type Files = Record<string, unknown>;

function variant(base: string, name: string, files: Files): string {
  const folder = join(root, name);
  cpSync(base, folder, { recursive: true });
  if (Object.keys(files).some((f) => f.startsWith('sentence_') && f !== 'sentence_bert_config.json'))
    rmSync(join(folder, 'sentence_bert_config.json'));
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

async function vectorsOf(folder: string, options?: EncoderOptions): Promise<number[][]> {
  const opened = await Encoder.load(folder, options);
  const data = await opened.encode(texts);
  await opened.dispose();
  return texts.map((_, i) => [...data.subarray(i * opened.dimensions, (i + 1) * opened.dimensions)]);
}
const maxLengthOf = async (folder: string): Promise<number> => {
  const opened = await Encoder.load(folder);
  await opened.dispose();
  return opened.maxLength;
};
const close = (a: readonly number[][], b: readonly number[][]): void => {
  for (const [i, row] of a.entries()) {
    expect(row.length).toBe(b[i].length);
    for (const [k, x] of row.entries()) expect(x).toBeCloseTo(b[i][k], 5);
  }
};
const modules = (normalize: boolean) => ({
  'modules.json': [
    { path: '', type: 'sentence_transformers.models.Transformer' },
    { path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
    ...(normalize ? [{ path: '2_Normalize', type: 'sentence_transformers.models.Normalize' }] : []),
  ],
  '1_Pooling/config.json': { word_embedding_dimension: 16, pooling_mode_mean_tokens: true },
});
const json = (folder: string, file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8'));

describe('truncate_dim', () => {
  const cut = { 'config_sentence_transformers.json': { truncate_dim: 5 } };

  test('the first numbers of the vector as it leaves the modules; of unit length where vectors are compared', async () => {
    for (const normalize of [true, false]) {
      const whole = await vectorsOf(variant(encoder, `whole-${normalize}`, modules(normalize)));
      const folder = variant(encoder, `cut-${normalize}`, { ...modules(normalize), ...cut });
      const first = whole.map((row) => row.slice(0, 5));
      close(await vectorsOf(folder), first);
      const unit = first.map((row) => row.map((x) => x / Math.hypot(...row)));
      close(await vectorsOf(folder, { comparable: true }), unit);
    }
  });

  test('of a vector that the graph makes itself, and in an exported folder', async () => {
    const folder = variant(encoder, 'cut-graph', { ...modules(true), ...cut });
    const want = await vectorsOf(folder);
    const graph = await loadGraph(join(folder, 'onnx/model.onnx'));
    appendHead(graph, { pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] }, folder);
    graph.outputs[0].name = 'sentence_embedding';
    writeFileSync(join(folder, 'onnx/model.onnx'), encodeGraph(graph));
    close(await vectorsOf(folder), want);
    const again = variant(encoder, 'cut-exported', { ...modules(true), ...cut });
    const out = join(root, 'exported');
    await exportFolder(again, out, { dtypes: ['fp32'] });
    close(await vectorsOf(out, { comparable: true }), await vectorsOf(again, { comparable: true }));
  });

  test('wider than the vector it says nothing, and what is no number of columns is refused', async () => {
    const wide = variant(encoder, 'wide', { 'config_sentence_transformers.json': { truncate_dim: 64 } });
    expect((await vectorsOf(wide))[0]).toHaveLength(16);
    for (const bad of [0, -3, 2.5, '8'])
      await expect(
        Encoder.load(variant(encoder, `bad-${bad}`, { 'config_sentence_transformers.json': { truncate_dim: bad } })),
      ).rejects.toThrow(`truncate_dim is ${JSON.stringify(bad)}`);
  });
});

describe('the configuration of the module Transformer', () => {
  test.each(transformerFiles)('%s', async (name) => {
    expect(await maxLengthOf(variant(encoder, name, { [name]: { max_seq_length: 7 } }))).toBe(7);
  });

  test('limits of the tokenizer that it opens and of the texts that it processes', async () => {
    const own = (config: unknown, i: number) => variant(encoder, `limit-${i}`, { 'sentence_bert_config.json': config });
    const configs = [
      { tokenizer_args: { model_max_length: 9 } },
      { processor_kwargs: { model_max_length: 8, padding_side: 'left' }, max_seq_length: 20 },
      { processing_kwargs: { text: { max_length: 6, truncation: true, padding: 'longest' } } },
      { max_seq_length: null },
      { max_seq_length: 4096 },
    ];
    expect(await Promise.all(configs.map((c, i) => maxLengthOf(own(c, i))))).toEqual([9, 8, 6, 24, 24]);
  });

  const refusals: [string, unknown, string][] = [
    [
      'texts without special tokens',
      { processing_kwargs: { text: { add_special_tokens: false } } },
      'processing_kwargs has text.add_special_tokens false',
    ],
    [
      'texts that are not cut',
      { processing_kwargs: { common: { truncation: false } } },
      'processing_kwargs has common.truncation false',
    ],
    [
      'an option of the tokenizer',
      { tokenizer_args: { do_lower_case: true } },
      'the tokenizer is opened with do_lower_case true',
    ],
    ['a tokenizer elsewhere', { tokenizer_name_or_path: 'org/other' }, "its tokenizer is that of 'org/other'"],
    ['a length', { max_seq_length: 'long' }, 'max_seq_length is "long"'],
    ['a masked language model', { transformer_task: 'fill-mask' }, 'is loaded for fill-mask'],
    ['a chat template', { modality_config: { message: { format: 'flat' } } }, 'puts texts into a chat template'],
  ];
  test.each(refusals)('refused: %s', async (name, config, message) => {
    await expect(
      Encoder.load(variant(encoder, `refused ${name}`, { 'sentence_bert_config.json': config })),
    ).rejects.toThrow(message);
  });

  test('a Transformer in a folder of its own is refused', async () => {
    const own = modules(true);
    own['modules.json'][0].path = '0_Transformer';
    await expect(Encoder.load(variant(encoder, 'own-folder', own))).rejects.toThrow(
      "its Transformer is in '0_Transformer', not in the folder itself",
    );
  });

  test('where nothing names a length, the usual one is said', async () => {
    const { max_position_embeddings: _, ...config } = json(encoder, 'config.json');
    const { model_max_length: __, ...tokenizer } = json(encoder, 'tokenizer_config.json');
    const folder = variant(encoder, 'unlimited', {
      'config.json': config,
      'tokenizer_config.json': tokenizer,
      'sentence_bert_config.json': {},
    });
    const opened = await Encoder.load(folder);
    await opened.dispose();
    expect([opened.maxLength, opened.notes]).toEqual([
      512,
      [
        `${folder} names no length that texts are cut at: they are cut at 512 tokens; state max_seq_length in sentence_bert_config.json to cut elsewhere`,
      ],
    ]);
  });
});

describe("a cross-encoder's folder", () => {
  const pairs = texts.map((document, i) => ({ queryId: 'q', documentId: `d${i}`, query: 'Network list', document }));
  async function scoresOf(
    folder: string,
    options?: CrossEncoderOptions,
    of = pairs,
  ): Promise<[number[], readonly string[]]> {
    const teacher = await crossEncoder(folder, options);
    const scores = [...(await teacher.score(of))];
    await teacher.dispose();
    return [scores, teacher.facts?.notes ?? []];
  }
  const withPrompts = (config: Files) => ({
    'config_sentence_transformers.json': { model_type: 'CrossEncoder', ...config },
    'modules.json': modules(false)['modules.json'].slice(0, 1),
    'sentence_bert_config.json': { transformer_task: 'sequence-classification' },
  });

  test('the default prompt stands before the query, others are named, and a config gives its own', async () => {
    const [without] = await scoresOf(classifier);
    const [found] = await scoresOf(
      classifier,
      {},
      pairs.map((p) => ({ ...p, query: `find : ${p.query}` })),
    );
    expect(found).not.toEqual(without);
    const folder = variant(classifier, 'prompt', withPrompts({ prompts: { f: 'find : ' }, default_prompt_name: 'f' }));
    expect(await scoresOf(folder)).toEqual([found, []]);
    expect(await scoresOf(classifier, { prompts: { query: 'find : {text}' } })).toEqual([found, []]);
    expect(await scoresOf(folder, { prompts: { query: '' } })).toEqual([without, []]);
    const other = variant(classifier, 'other-prompt', withPrompts({ prompts: { query: 'find : ' } }));
    expect(await scoresOf(other)).toEqual([
      without,
      [
        "its prompts (query) are not used, as none of them is its default; 'prompts' (of a causal language model 'instruction') uses one",
      ],
    ]);
    const keys = [classifier, folder].map((f) => crossEncoderKey(f));
    expect(new Set(await Promise.all(keys)).size).toBe(2);
  });

  test('its length and its case', async () => {
    const short = variant(classifier, 'short', { 'sentence_bert_config.json': { max_seq_length: 8 } });
    expect((await scoresOf(short))[0]).toEqual((await scoresOf(classifier, { maxLength: 8 }))[0]);
    const cased = json(classifier, 'tokenizer.json');
    cased.normalizer = null;
    const lower = { ...withPrompts({}), 'tokenizer.json': cased };
    const folder = variant(classifier, 'cased', lower);
    const lowered = pairs.map((p) => ({ ...p, query: p.query.toLowerCase(), document: p.document.toLowerCase() }));
    const [want] = await scoresOf(folder, {}, lowered);
    expect((await scoresOf(folder))[0]).not.toEqual(want);
    const said = variant(folder, 'lower', { 'sentence_bert_config.json': { do_lower_case: true } });
    expect((await scoresOf(said))[0]).toEqual(want);
  });

  test('an empty text is a text: the pair has all special tokens, as in CrossEncoder.predict', async () => {
    const { TextTokenizer } = await import('../../data/tokenizer.ts');
    const tokenizer = await TextTokenizer.load(classifier);
    const [cls, sep] = ['[CLS]', '[SEP]'].map((t) => tokenizer.idOf(t));
    const { ids, typeIds } = tokenizer.encodePair('', '');
    expect([[...ids], [...typeIds]]).toEqual([
      [cls, sep, sep],
      [0, 0, 1],
    ]);
  });

  test('modules after the classifier are refused by name', async () => {
    const files = withPrompts({});
    files['modules.json'].push({ path: '1_Dense', type: 'sentence_transformers.models.Dense' });
    await expect(crossEncoder(variant(classifier, 'dense', files))).rejects.toThrow(
      "the module 'sentence_transformers.models.Dense' in '1_Dense' is not known of a re-ranker",
    );
  });
});

test('a folder without tokenizer.json is exported with one, for loaders of JavaScript', async () => {
  const folder = variant(encoder, 'vocabulary', modules(true));
  const config = json(folder, 'tokenizer_config.json');
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...config, tokenizer_class: 'BertTokenizer' }));
  const want = await vectorsOf(folder);
  rmSync(join(folder, 'tokenizer.json'));
  close(await vectorsOf(folder), want);
  const out = join(root, 'vocabulary-exported');
  await exportFolder(folder, out, { dtypes: ['fp32'] });
  const made = json(out, 'tokenizer.json');
  expect(made.added_tokens.map((t: { content: string }) => t.content)).toEqual(
    expect.arrayContaining(['[CLS]', '[SEP]', '[MASK]']),
  );
  close(await vectorsOf(out, { comparable: true }), want);
  // A graph that does not state its width has that of config.json.
  const graph = await loadGraph(join(folder, 'onnx/model.onnx'));
  graph.outputs[0].dims = ['batch', 'sequence', 'width'];
  writeFileSync(join(folder, 'onnx/model.onnx'), encodeGraph(graph));
  const { hidden_size: width, ...others } = json(folder, 'config.json');
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...others, n_embd: width }));
  await exportFolder(folder, out, { dtypes: ['fp32'] });
  close(await vectorsOf(out, { comparable: true }), want);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(others));
  await expect(exportFolder(folder, out, { dtypes: ['fp32'] })).rejects.toThrow(
    /neither the graph nor config.json of .*vocabulary says how wide its token vectors are: expected hidden_size/,
  );
});
