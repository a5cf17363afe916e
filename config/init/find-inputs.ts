/** @file What a folder holds that a run can use: data, models, files of scores. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { dataKind, openDataset, splitOf } from '../../data/open.ts';
import { readScores } from '../../data/scores.ts';
import { holdsTexts, textFiles } from '../../data/text-folder.ts';
import { readModelFile } from '../../engine/io/model-file.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { findLayers } from '../../engine/passes/layers.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { MARK } from '../paths.ts';

/** A model that a run could use. */
export interface FoundModel {
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
  /** Of the judged training queries those that the file of training scores lists, and all of them. */
  scored?: { listed: number; of: number };
  /** Things that were there and are not used, with the reason. */
  notes: string[];
}

/** Folders below the one given that are looked into. */
const DEPTH = 3;
/** Folders that are not looked into, and those that are parts of a BEIR folder. */
const OTHERS = /^\.|^(node_modules|qrels|dist)$/;
const PARTS = /^\.|^(node_modules|qrels|dist|corpus|queries|data|default)$/;

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
      // A link whose target is missing is left out.
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat?.isFile() && /scores?\b.*\.tsv(\.gz)?$/i.test(name)) scores[splitOf(name) ?? 'train'] ??= path;
      const whole = kind === 'beir' || kind === 'rows';
      const below = stat?.isDirectory() && !(whole ? PARTS : OTHERS).test(name);
      // Folders below files of rows may be parts of them; models may stand there too.
      if (below && depth < DEPTH) await visit(path, depth + 1, within || kind === 'rows');
    }
  };
  await visit(folder, 0);
  // Texts are the data only where there are no others: most data have README files next to them.
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
  const dataset = await openDataset(data[0], { makes: ['train'] });
  if (!dataset.splits.length)
    throw new InputError({
      code: 'init.no-judgements',
      subject: `${data[0]} holds no judgements`,
      expected:
        'qrels/train.tsv with lines query-id, corpus-id, score (also .txt, .jsonl, .csv, .parquet, or qrels.tsv)',
      remedy: 'add them: a run needs the split of the queries that it learns from',
    });
  const scored = await scoredQueries(dataset, scores, notes);
  return { data: data[0], dataset, models, scores, ...(scored && { scored }), notes };
}

/** The split whose queries teach. */
export const trainSplit = ({ splits }: Dataset): string => (splits.includes('train') ? 'train' : splits[0]);

/** How many training queries the file of their scores lists; a file that lists none, or that cannot be read, is taken out with a note. */
async function scoredQueries(
  dataset: Dataset,
  scores: Record<string, string>,
  notes: string[],
): Promise<Findings['scored']> {
  const { train: file } = scores;
  if (file === undefined) return undefined;
  const judged = judgedQueries(dataset, trainSplit(dataset));
  const refuse = (why: string): undefined => {
    delete scores.train;
    notes.push(`not used: ${file}, ${why}`);
  };
  try {
    const lists = new Set(
      (await readScores(file, dataset.queries, dataset.documents, (note) => notes.push(note))).queries,
    );
    const listed = judged.filter((q) => lists.has(q)).length;
    if (judged.length ? listed : lists.size) return { listed, of: judged.length };
    return refuse(`it scores no judged query of the split '${trainSplit(dataset)}'`);
  } catch (error) {
    if (error instanceof InputError) return refuse(error.message);
    throw error;
  }
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
