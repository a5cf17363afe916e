/** @file A dual-encoder's settings outside its graph: modules, prompts, similarity, limits, lower-casing. */
import { basename, join } from 'node:path';
import type { Pooling } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { firstPosition, hiddenSize, type ModelFolder, positionsOf } from './model-folder.ts';
import { endsInUnit, type Head, headWidth, type Similarity, withUnit } from './modules/head.ts';
import { type PromptOptions, type Prompts, promptNotes, promptsOf } from './modules/prompts.ts';
import { readJson } from './modules/read-json.ts';
import { poolingOf, readHead, similarityOf, truncated } from './modules/read-modules.ts';
import { encoderConfig } from './modules/transformer-config.ts';

/** Options that override the folder. */
export interface SentenceOptions {
  /** In place of the folder's; what follows the pooling stays. */
  pooling?: Pooling;
  /** Whether vectors are scaled to unit length. */
  normalize?: boolean;
  prompts?: PromptOptions;
}

export interface SentenceFolder {
  head: Head;
  prompts: Prompts;
  similarity: Similarity;
  /** Whether texts are put in lower case before the tokenizer reads them. */
  lowerCase: boolean;
  /** Notes on assumptions made and parts ignored. */
  notes: string[];
}

/** @throws InputError where a module, a pooling, a prompt or a similarity is not understood */
export async function readSentenceFolder(files: ModelFolder, options: SentenceOptions = {}): Promise<SentenceFolder> {
  const { folder } = files;
  const file = join(folder, 'config_sentence_transformers.json');
  const [sentence, own] = await Promise.all([readJson(file), encoderConfig(folder)]);
  const whole = (await readHead(folder)) ?? (await withoutModules(folder));
  const found = truncated(whole, sentence.truncate_dim, await widthOf(whole, files), file);
  const pooled = options.pooling ? { ...found, pooling: [options.pooling] } : found;
  const prompts = promptsOf(sentence, options.prompts, file);
  const names = [basename(folder), String(files.config._name_or_path ?? '')].filter(Boolean);
  return {
    head: options.normalize === undefined ? pooled : withUnit(pooled, options.normalize),
    prompts,
    // Vectors without scaling are compared by dot product.
    similarity: options.normalize === false ? 'dot' : similarityOf(sentence, file),
    lowerCase: own.lowerCase,
    notes: promptNotes(prompts, options.prompts ?? {}, names),
  };
}

/** Width of a folder's vectors, as its modules or its config.json say it; undefined where none does. */
async function widthOf(head: Head, { folder, config }: ModelFolder): Promise<number | undefined> {
  const pooling = await readJson(join(folder, '1_Pooling', 'config.json'));
  const stated = [pooling.embedding_dimension, pooling.word_embedding_dimension, hiddenSize(config)];
  const tokens = stated.find((n): n is number => typeof n === 'number' && n > 0);
  const dense = head.modules.some((m) => m.kind === 'dense');
  return tokens === undefined && !dense ? undefined : headWidth(head, tokens ?? 0);
}

/** A folder of transformers or transformers.js: pooled by its mean unless it says otherwise, and scaled to unit length. */
async function withoutModules(folder: string): Promise<Head> {
  const file = join(folder, '1_Pooling', 'config.json');
  return { ...poolingOf(await readJson(file), file), modules: [{ kind: 'normalize' }] };
}

/** Whether the dot product of two vectors of a head is their similarity, or ranks as it does. */
export const isDotProduct = (head: Head, similarity: Similarity): boolean =>
  similarity === 'dot' || (endsInUnit(head) && similarity !== 'manhattan');

/** How many tokens a text may have: what config.json says, and the rows of the table that the graph reads positions from. */
export const positionsIn = (graph: Graph, config: Record<string, unknown>): number =>
  positionsAmong(
    graph.constants.map((v): [string, readonly number[]] => [v.name, v.constant?.dims ?? []]),
    config,
  );

/** As positionsIn, of the shapes of a graph's weights by name. */
export function positionsAmong(
  weights: Iterable<readonly [string, readonly number[]]>,
  config: Readonly<Record<string, unknown>>,
  padId?: number,
): number {
  let most = positionsOf(config, padId);
  for (const [name, dims] of weights)
    if (
      !name.includes('relative') &&
      /(^|[./_])(position_embeddings|wpe|embed_positions)(\.weight)?$/.test(name) &&
      dims.length === 2
    )
      most = Math.min(most, Math.max(1, dims[0] - firstPosition(config, padId)));
  return most;
}
