/** @file The data and models of a run as results: what of them counts for a stage, by content. */
import { hashAll } from '../common/files.ts';
import { VERSION } from '../common/version.ts';
import type { Config } from '../config/config.ts';
import type { Options } from '../config/options.ts';
import { type Dataset, judgedQueries, unjudgedQueries } from '../data/dataset.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { Random } from '../math/random.ts';
import { sentenceKey } from '../models/encoder-description.ts';
import { modelHash, readModelFolder } from '../models/model-folder.ts';
import { readSentenceFolder } from '../models/sentence-folder.ts';
import { isScoreFile, scoreFileKey } from '../teachers/score-file.ts';
import { merged } from './stages/fingerprint.ts';
import { given, type Result } from './stages/stage.ts';

/** One data set, under the parts of it that a result can depend on. */
export interface DataResults {
  /** Of the documents alone. */
  documents: Result<Dataset>;
  /** Of documents, training queries and their judgements. */
  training: Result<Dataset>;
  /** Of the dev split's queries and judgements. */
  dev: Result<Dataset>;
  test: Result<Dataset>;
  all: Result<Dataset>;
}

/** Positions of the training split's queries, and of those that no split judges where the options include them. */
export function trainingQueries({ data }: Options<'data'>, dataset: Dataset): number[] {
  const judged = judgedQueries(dataset, data.splits.train);
  const limit = data.maxQueries ?? Number.POSITIVE_INFINITY;
  const first = data.labelled ?? 0;
  if (!data.unlabelled || judged.length >= limit) return drawn(judged, limit, first);
  return [...judged, ...drawn(unjudgedQueries(dataset), limit - judged.length, 0)];
}

/**
 * The queries of a split that are asked about before a run: of the training split those that it trains on, unjudged ones where none
 * is judged; of another one all.
 */
export function askedQueries({ data }: Options<'data'>, dataset: Dataset, split: string): number[] {
  const judged = judgedQueries(dataset, split);
  if (split !== data.splits.train) return judged;
  return trainingQueries({ data: { ...data, unlabelled: data.unlabelled && !judged.length } }, dataset);
}

/**
 * At most `limit` of them, in their order. They are drawn: data sets are often sorted by topic or name, and their first part is
 * then another domain. A smaller limit draws a part of what a larger one draws.
 * @param first so many of the beginning are always among them: those that keep their labels
 */
function drawn(queries: readonly number[], limit: number, first: number): number[] {
  if (queries.length <= limit) return [...queries];
  const kept = queries.slice(0, Math.min(first, limit));
  const others = Random.of(0, 'training queries').shuffle(Int32Array.from(queries.slice(kept.length)));
  const chosen = new Set([...kept, ...others.subarray(0, limit - kept.length)]);
  return queries.filter((q) => chosen.has(q));
}

export function dataResults(config: Config, dataset: Dataset): DataResults {
  const { splits } = config.data;
  const has = (split: string | null): split is string => split !== null && dataset.splits.includes(split);
  const judgements = (split: string | null): string =>
    has(split)
      ? hashAll(
          (function* () {
            for (const [query, grades] of dataset.qrels(split)) yield JSON.stringify([query, ...grades]);
          })(),
        )
      : '';
  // Positions too: what is kept names queries by position.
  const texts = (positions: readonly number[]): string =>
    hashAll(
      (function* () {
        for (const i of positions) {
          yield String(i);
          yield dataset.queries.ids[i];
          yield dataset.queries.text(i);
        }
      })(),
    );
  const judged = (split: string | null): string => texts(has(split) ? judgedQueries(dataset, split) : []);
  const documents = { version: VERSION, 'the documents': dataset.documents.hash };
  const training = {
    'the training judgements': judgements(splits.train),
    'the training queries': texts(trainingQueries(config, dataset)),
  };
  const dev = { 'the dev judgements': judgements(splits.dev), 'the dev queries': judged(splits.dev) };
  const test = { 'the test judgements': judgements(splits.test), 'the test queries': judged(splits.test) };
  return {
    documents: given(dataset, documents),
    training: given(dataset, { ...documents, ...training }),
    dev: given(dataset, dev),
    test: given(dataset, test),
    all: given(
      dataset,
      merged(documents, training, dev, {
        'the queries': dataset.queries.hash,
        'the test judgements': test['the test judgements'],
      }),
    ),
  };
}

/** Models or files of scores that an option names, by content. */
export async function namedModels(option: string, models: readonly string[]): Promise<Result<readonly string[]>> {
  const parts: Record<string, string> = {};
  for (const [i, model] of models.entries())
    parts[`${option}.${i}`] = isScoreFile(model)
      ? await scoreFileKey([model])
      : await modelHash((await readModelFolder(model)).model);
  return given(models, parts);
}

/** The folder of an encoder, by the content of its model and tokenizer. */
export async function encoderFolder(model: string): Promise<Result<string>> {
  const files = await readModelFolder(model);
  return given(model, {
    "the student's model": await modelHash(files.model),
    "the student's tokenizer": (await TextTokenizer.load(files.folder)).hash,
    "the student's modules": sentenceKey(await readSentenceFolder(files)),
  });
}
