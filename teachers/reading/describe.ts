/** @file Reads a re-ranker's folder without running it: inputs, score, limits, and cache key. */

import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import { type PairLimits, TextTokenizer, type Tokens } from '../../data/tokenizer.ts';
import { type ModelFile, readModelFile } from '../../engine/io/model-file.ts';
import {
  countFromPad,
  firstPosition,
  hidesPadding,
  type ModelFolder,
  modelHash,
  readModelFolder,
} from '../../models/model-folder.ts';
import { type PromptOptions, promptKey } from '../../models/modules/prompts.ts';
import { positionsAmong } from '../../models/sentence-folder.ts';
import { type InputPlan, planInputs } from './inputs.ts';
import { isUsual, type LabelChoice, labelsOf } from './labels.ts';
import { type LengthLimits, lengthLimits } from './limits.ts';
import { type ScoreOutput, scoreOutput } from './output.ts';
import { type PairConfig, pairConfig, prompted } from './pair-config.ts';
import { refuseSplit } from './split-file.ts';

export interface ReadingOptions extends PairLimits {
  /** Around the texts, in place of the folder's default prompt before the query. */
  prompts?: PromptOptions;
  /** Which label means relevance, by name or place, where id2label does not say it. */
  label?: LabelChoice;
  /** Which output holds the scores; `logits` or the only one that can by default. */
  output?: string;
}

export interface FolderReading {
  files: ModelFolder;
  tokenizer: TextTokenizer;
  model: ModelFile;
  hash: string;
  plan: InputPlan;
  limits: LengthLimits;
  /** Prompts and case, by sentence-transformers' files. */
  own: PairConfig;
  /** Tokens that the model can read at all. */
  hard: number;
  notes: string[];
}

/**
 * A folder's tokenizer and graph, and how texts are cut and fed. @throws InputError where something is missing or not understood
 */
export async function readFolder(
  folder: string,
  options: PairLimits & Pick<ReadingOptions, 'prompts'>,
  { generates = false }: { generates?: boolean } = {},
): Promise<FolderReading> {
  refuseSplit(folder);
  const files = await readModelFolder(folder);
  const own = await pairConfig(files.folder, options.prompts);
  const tokenizer = await TextTokenizer.load(files.folder, { lowerCase: own.lowerCase });
  const model = await readModelFile(files.model);
  const { padId } = tokenizer;
  // A generating model is read at the last token, which is found from the left.
  const paddingSide = generates ? undefined : tokenizer.paddingSide;
  const plan = planInputs(model, {
    padId,
    firstPosition: firstPosition(files.config, padId),
    hidesPad: hidesPadding(files.config),
    paddingSide,
    generates,
  });
  checkVocabulary(model, tokenizer, folder);
  const { limits, hard, note } = lengthLimits(options, {
    tokenizer: least(tokenizer.modelMaxLength, own.maxLength),
    positions: positionsAmong(model.weights, files.config, padId),
    fixed: plan.length,
  });
  const notes = [...own.notes, ...(note ? [note] : [])];
  return { files, tokenizer, model, hash: await modelHash(files.model), plan, limits, own, hard, notes };
}

/** A pair's tokens as a folder's model is given them: with the prompts around the texts, cut to the limits. */
export const pairTokens =
  ({
    tokenizer,
    limits,
    own,
  }: Pick<FolderReading, 'tokenizer' | 'limits'> & { own: Pick<PairConfig, 'query' | 'document'> }) =>
  (pair: { query: string; document: string }): Tokens => {
    const { query, document } = prompted(own, pair);
    return tokenizer.encodePair(query, document, limits);
  };

const least = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);

/** A cross-encoder's folder, and the output that its score is read from. */
export async function describeClassifier(
  folder: string,
  options: ReadingOptions,
): Promise<FolderReading & { output: ScoreOutput; key: string }> {
  const reading = await readFolder(folder, options);
  const { files, model, tokenizer, hash, limits, plan, own, notes } = reading;
  const output = scoreOutput(model, options.output);
  if (output.note) notes.push(output.note);
  const { config } = files;
  // Earlier versions read these differently or wrongly, so their cached scores are not reused.
  const changed = {
    ...(output.port.name !== 'logits' && { output: output.port.name }),
    ...(output.port.dtype !== 'float32' && { dtype: output.port.dtype }),
    ...(output.activation && { activation: output.activation }),
    ...(output.probability && { probability: true }),
    ...(!plan.masked && { masked: false }),
    ...(!isUsual(config, options.label) && { labels: labelsOf(config), label: options.label }),
    ...(promptKey(own.query, own.document) && { prompts: promptKey(own.query, own.document) }),
    ...(countFromPad.has(String(config.model_type)) && { family: config.model_type }),
  };
  const parts = ['cross-encoder', hash, tokenizer.hash, JSON.stringify(limits)];
  const key = hashParts(...parts, ...(Object.keys(changed).length ? [JSON.stringify(changed)] : []));
  return { ...reading, output, key };
}

/** @throws InputError where the tokenizer has ids beyond the table that they are looked up in */
function checkVocabulary({ table }: ModelFile, tokenizer: TextTokenizer, folder: string): void {
  if (!table || tokenizer.vocabularySize <= table.rows) return;
  throw new InputError({
    code: 'model.tokenizer-mismatch',
    subject: `the tokenizer of ${folder} has ids up to ${tokenizer.vocabularySize - 1}`,
    expected: `ids below ${table.rows}, the rows of the model's word table`,
    remedy: 'use the tokenizer that the model was trained with',
  });
}

export const limitSays = ({ maxLength, maxQuery, maxDocument }: LengthLimits, { rows, length }: InputPlan): string =>
  [
    `${maxLength} tokens a pair`,
    maxQuery !== undefined && `${maxQuery} of the query`,
    maxDocument !== undefined && `${maxDocument} of the document`,
    length !== undefined && `every batch is padded to ${length} tokens`,
    rows !== undefined && `every batch has ${rows} pairs`,
  ]
    .filter(Boolean)
    .join(', ');
