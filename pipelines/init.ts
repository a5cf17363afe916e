/** @file Looks at a folder and writes a commented config for what it holds. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { stringify } from 'yaml';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { readConfig } from '../config/read-yaml.ts';
import type { Dataset } from '../data/dataset.ts';
import { dataKind, openDataset, splitOf } from '../data/open.ts';
import { listsNegatives } from '../data/relevant.ts';
import { holdsTexts, textFiles } from '../data/text-folder.ts';
import { readModelFile } from '../engine/io/model-file.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { findLayers } from '../engine/passes/layers.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { MARK } from './run/output-folder.ts';

interface FoundModel {
  folder: string;
  kind: 'cross-encoder' | 'dual-encoder';
  layers: number;
  bytes: number;
}

/** What a folder holds, as far as a run can use it. */
export interface Findings {
  data: string;
  dataset: Dataset;
  models: FoundModel[];
  /** Files of scores by split. */
  scores: Record<string, string>;
  /** Things that were there and are not used, with the reason. */
  notes: string[];
}

/** Folders below the one given that are looked into. */
const DEPTH = 3;
/** Folders that are not looked into, and those that are parts of a BEIR folder. */
const OTHERS = /^\.|^(node_modules|qrels|dist)$/;
const PARTS = /^\.|^(node_modules|qrels|dist|corpus|queries|data|default)$/;

/**
 * Writes a config that runs as it is.
 * @param file written; must not be there yet
 * @returns what was chosen, a line each
 * @throws InputError where there is no data, or the file is there already
 */
export async function init(folder: string, file = join(folder, 'distill.yaml')): Promise<string[]> {
  if (existsSync(file))
    throw new InputError({
      code: 'init.exists',
      subject: `${file} is there already`,
      remedy: 'remove it, or give another name with --file',
    });
  const found = await look(folder);
  const text = compose(found, dirname(resolve(file)));
  await writeWhole(file, text);
  readConfig(file);
  const { documents, queries } = found.dataset;
  return [
    `data: ${found.data}, ${documents.length} documents, ${queries.length} queries`,
    ...(found.dataset.notes ?? []),
    ...(found.dataset.warnings ?? []).map((w) => `warning: ${w.text}`),
    ...found.models.map((m) => `${m.kind}: ${m.folder}, ${m.layers} layers`),
    ...Object.entries(found.scores).map(([split, f]) => `scores (${split}): ${f}`),
    ...found.notes,
  ];
}

/** @throws InputError where the folder is missing or holds no data */
export async function look(folder: string): Promise<Findings> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new InputError({
      code: 'init.missing-folder',
      subject: `there is no folder ${folder}`,
      remedy: 'give the folder that holds data and models',
    });
  const data: string[] = [];
  const models: FoundModel[] = [];
  const scores: Record<string, string> = {};
  const notes: string[] = [];
  const visit = async (dir: string, depth: number, within = false): Promise<void> => {
    if (existsSync(join(dir, MARK))) return;
    const isModel = ['onnx/model.onnx', 'model.onnx'].some((f) => existsSync(join(dir, f)));
    if (isModel) {
      const model = await recognise(dir);
      if (typeof model === 'string') notes.push(model);
      else models.push(model);
      return;
    }
    const kind = dataKind(dir);
    if (kind && kind !== 'text' && !within) data.push(dir);
    for (const name of readdirSync(dir).sort()) {
      const path = join(dir, name);
      // Links to nowhere are nothing.
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isFile() && /scores?\b.*\.tsv(\.gz)?$/i.test(name)) scores[splitOf(name) ?? 'train'] ??= path;
      const whole = kind === 'beir' || kind === 'rows';
      const below = stat?.isDirectory() && !(whole ? PARTS : OTHERS).test(name);
      // Folders below files of rows may be parts of them; models may stand there too.
      if (below && depth < DEPTH) await visit(path, depth + 1, within || kind === 'rows');
    }
  };
  await visit(folder, 0);
  // Texts speak where nothing else does: README files stand beside most data.
  if (!data.length && holdsTexts(folder)) data.push(commonFolder(textFiles(folder)));
  if (!data.length)
    throw new InputError({
      code: 'init.no-data',
      subject: `${folder} holds no data`,
      expected:
        'corpus.jsonl, queries.jsonl and qrels/*.tsv, files of rows (.jsonl, .csv, .tsv, .parquet) with a query and a document or a text alone, or texts (.txt, .md, .html)',
      remedy: 'put them there, or give the folder that holds them',
    });
  for (const other of data.slice(1)) notes.push(`not used: ${other}, more data`);
  const dataset = await openDataset(data[0]);
  if (!dataset.splits.length)
    throw new InputError({
      code: 'init.no-judgements',
      subject: `${data[0]} holds no judgements`,
      expected:
        'qrels/train.tsv with lines query-id, corpus-id, score (also .txt, .jsonl, .csv, .parquet, or qrels.tsv)',
      remedy: 'add them: a run needs the split of the queries that it learns from',
    });
  return { data: data[0], dataset, models, scores, notes };
}

/** The deepest folder that holds all of some files. */
function commonFolder(files: readonly string[]): string {
  let common = dirname(files[0]);
  for (const file of files) while (relative(common, file).startsWith('..')) common = dirname(common);
  return common;
}

/** A model folder's kind by its outputs; a sentence where it has none. */
async function recognise(folder: string): Promise<FoundModel | string> {
  try {
    const { model } = await readModelFolder(folder);
    if (!['tokenizer.json', 'vocab.txt', 'vocab.json'].some((name) => existsSync(join(folder, name))))
      return `not used: ${folder}, it has no tokenizer.json`;
    const outputs = (await readModelFile(model)).outputs.map((v) => v.name);
    const vectors = ['sentence_embedding', 'last_hidden_state', 'token_embeddings'].some((n) => outputs.includes(n));
    if (!vectors && !outputs.includes('logits')) return `not used: ${folder}, its outputs are ${outputs.join(', ')}`;
    // A re-ranker is only run: its graph need not be one that is read here.
    const graph = vectors ? await loadGraph(model) : undefined;
    let layers = 0;
    try {
      layers = findLayers(graph ?? (await loadGraph(model))).length;
    } catch {}
    return { folder, kind: vectors ? 'dual-encoder' : 'cross-encoder', layers, bytes: statSync(model).size };
  } catch (error) {
    if (error instanceof InputError) return `not used: ${folder}, ${error.message}`;
    throw error;
  }
}

/** Half of the layers, first and last among them. */
function halfOf(layers: number): number[] | undefined {
  const kept = Math.floor(layers / 2);
  if (kept < 2) return undefined;
  return Array.from({ length: kept }, (_, i) => Math.floor((i * (layers - 1)) / (kept - 1)));
}

/** Of dual-encoders the one to learn from (by its name, else the largest) and the one to start from. */
function rolesOf(duals: readonly FoundModel[]): { embedder?: FoundModel; start?: FoundModel } {
  if (duals.length < 2) return { start: duals[0] };
  const bySize = [...duals].sort((a, b) => b.bytes - a.bytes);
  const embedder = bySize.find((m) => /dual|teacher/i.test(basename(m.folder))) ?? bySize[0];
  return { embedder, start: bySize.findLast((m) => m !== embedder) };
}

function compose({ data, dataset, models, scores, notes }: Findings, from: string): string {
  const path = (p: string): string => stringify(relative(from, p).replaceAll('\\', '/') || '.').trim();
  const cross = models.find((m) => m.kind === 'cross-encoder');
  const { embedder, start } = rolesOf(models.filter((m) => m.kind === 'dual-encoder'));
  const split = (...names: string[]): string | undefined => names.find((n) => dataset.splits.includes(n));
  const train = split('train') ?? dataset.splits[0];
  const dev = split('dev', 'validation', 'val');
  const test = split('test') ?? dev ?? train;
  const rowScores = scoresOfRows(dataset, train);
  const files = Object.entries(scores).filter(([s]) => ['train', 'dev', 'test'].includes(s));
  const given = files.some(([s]) => s === 'train') || rowScores;
  const listed = given || listsNegatives(dataset, train);
  // From a cross-encoder and an encoder a family of students is made; a file of scores speaks of its own candidates alone.
  const family = Boolean(cross && start && !given);
  const layers = !family && start && halfOf(start.layers);
  const lines = [
    '# Options of `distill run`. All keys: `distill schema`. Paths are relative to this file, the output to where the command runs.',
    ...(family
      ? [
          '# A family of students: a dual-encoder, a small query tower over its documents, one without a transformer, each with BM25.',
          'pipeline: chain',
        ]
      : []),
    `output: runs/${basename(resolve(data)).replace(/\W+/g, '-') || 'student'}`,
    '',
    `# ${dataset.documents.length} documents, ${dataset.queries.length} queries. Splits: ${dataset.splits.join(', ')}.`,
    'data:',
    `  path: ${path(data)}`,
    `  splits: { train: ${train}, dev: ${dev ?? 'null'}, test: ${test} }`,
    ...(test === 'test' ? [] : [`  # There is no split test: figures on ${test} are too good.`]),
    '  # maxQueries: 2000    # for a first try on a part of the training queries',
    '',
    '# The teacher scores how well a document matches a query.',
  ];
  if (given) {
    lines.push('teacher:', '  kind: scores');
    if (files.length) lines.push('  files:', ...files.map(([s, f]) => `    ${s}: ${path(f)}`));
    else lines.push('  # The scores are in the rows.');
    if (cross) lines.push(`  # Or let the model score: kind: cross-encoder, model: ${path(cross.folder)}`);
  } else if (cross) lines.push('teacher:', '  kind: cross-encoder', `  model: ${path(cross.folder)}`);
  else if (start && !embedder) {
    lines.push('# No cross-encoder and no scores were found: the dual-encoder is the teacher of a smaller one.');
    lines.push('teacher:', '  kind: dual-encoder', `  model: ${path(start.folder)}`);
  } else if (embedder) lines.push('teacher:', '  kind: dual-encoder', `  model: ${path(embedder.folder)}`);
  else lines.push('# None was found: training on labels alone.', '# teacher: { kind: cross-encoder, model: FOLDER }');
  const dualTeacher = !given && !cross && (embedder ?? start);
  if (embedder && !dualTeacher)
    lines.push(
      '',
      family
        ? '# A dual-encoder of your own: its documents are searched, and no assistant is trained. Remove it to train one.'
        : "# Its embeddings are matched in addition to the teacher's scores.",
      'embedder:',
      `  model: ${path(embedder.folder)}`,
    );
  if (dualTeacher) lines.splice(2, 0, 'pipeline: dual-to-dual');
  lines.push('', '# What is trained.', 'student:');
  if (start) {
    lines.push(`  model: ${path(start.folder)}`);
    if (layers)
      lines.push(`  layers: [${layers.join(', ')}]    # of ${start.layers}; fewer are faster and less accurate`);
  } else
    lines.push(
      '  # No encoder was found to start from: a new one with random weights, which needs many queries.',
      '  fresh: { hidden: 128, layers: 2, heads: 4 }',
    );
  lines.push(...(family ? familyOptions(dataset, listed) : trainingOptions(given, listed)));
  if (notes.length) lines.push('', ...notes.map((n) => `# ${n.replaceAll('\n', ' ')}`));
  return `${lines.join('\n')}\n`;
}

/** What a family may be told; everything is left to the defaults, which follow the size of the data. */
const familyOptions = (dataset: Dataset, listed: boolean): string[] => [
  '',
  ...(dataset.made
    ? [
        '# Queries that a language model writes (any OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY):',
        '# generate: { kind: chat, url: "http://127.0.0.1:11434/v1", model: NAME, each: 3, budget: { calls: 2000 } }',
        '',
      ]
    : []),
  '# Which documents the teacher scores for a query.',
  listed
    ? 'candidates: { source: given }    # the negatives that the rows list; hybrid searches for others'
    : '# candidates: { source: hybrid, count: 16 }    # by the encoder and BM25 together; more are slower',
  '',
  '# Each part is a run with options of its own (all of them: `distill schema`), in a folder of its own; false leaves it out.',
  '# chain:',
  '#   assistant: { train: { steps: 800, batchSize: 32, learningRate: 5e-5 } }',
  '#   query: { student: { layers: [0, 5] }, export: { dtype: [q4] } }',
  '#   static: false',
  '# train: { provider: auto, threads: 2 }    # where it computes; auto takes what is fastest here',
];

const trainingOptions = (given: boolean, listed: boolean): string[] => [
  '',
  '# Which documents stand for a query in training.',
  ...(listed && !given ? ['# The negatives that the rows list; bm25 searches for others.'] : []),
  `candidates: { source: ${listed ? 'given' : 'bm25, count: 16'} }`,
  '',
  'train:',
  '  epochs: 1',
  '  batchSize: 16       # queries a step',
  '  candidates: 4       # documents a query and step',
  '  documentTokens: 96  # fewer than in evaluation: steps are faster',
];

function scoresOfRows(dataset: Dataset, train: string): boolean {
  const lists = dataset.candidates?.(train);
  return lists !== undefined && lists.scores.length > 0 && lists.scores.every((s) => !Number.isNaN(s));
}
