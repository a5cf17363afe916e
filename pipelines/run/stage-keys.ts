/** @file What each stage of a run depends on, by name: options, and the content of data, models and files. */
import { canonicalJson, hashParts } from '../../common/files.ts';
import { VERSION } from '../../common/version.ts';
import { type Dataset, judgedQueries, type Qrels } from '../../data/dataset.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import type { LossInput } from '../../losses/index.ts';
import { modelHash, readModelFolder } from '../../models/model-folder.ts';
import { isScoreFile, scoreFileKey } from '../../teachers/score-file.ts';
import type { StateKey } from '../../training/training-state.ts';
import type { Config } from '../config/config.ts';
import { comparesDocuments, lossModules, needsOf, registered, toLosses } from '../config/losses.ts';
import { toQuerySelection } from '../config/methods.ts';
import { trainingQueries } from './training-queries.ts';

/** In the order of a run. */
export const stageNames = [
  'data',
  'candidates',
  'queries',
  'teacher scores',
  'embeddings',
  'weights',
  'training',
  'checkpoint',
  'evaluation',
  'export',
] as const;
export type StageName = (typeof stageNames)[number];
export type StageKeys = Readonly<Record<StageName, StateKey>>;

/** Options that say where things are, how often state is saved, how much is done at a time, or what the content of the data says already. */
const WITHOUT_EFFECT = new Set([
  'cache',
  'data.holdOut',
  'data.maxQueries',
  'data.path',
  'data.splits.dev',
  'data.splits.test',
  'data.splits.train',
  'data.splitSeed',
  'data.unlabelled',
  'embedder.model',
  'folder',
  'memory',
  'output',
  'student.model',
  'teacher.model',
  'train.onNonFinite',
  'train.saveEvery',
]);
/** Keys of options that name files: what stands is their content. */
const FILES = /^(teacher\.files|online\.teachers|weighting\.teachers)\b/;

/** What selections of queries take from the student of the moment. */
const LOOKS_AT_STUDENT: ReadonlySet<string> = new Set(['student', 'embeddings', 'gradients']);

/** Options by their dotted names, those without an effect on results left out. */
function effectiveOptions(config: Config): StateKey {
  const flat: Record<string, string> = {};
  const add = (value: unknown, at: string): void => {
    if (WITHOUT_EFFECT.has(at) || FILES.test(at) || value === undefined) return;
    if (value && typeof value === 'object' && !Array.isArray(value))
      for (const [k, v] of Object.entries(value)) add(v, at ? `${at}.${k}` : k);
    else flat[at] = canonicalJson(value);
  };
  add(config, '');
  return flat;
}

const under = (options: StateKey, ...sections: string[]): StateKey =>
  Object.fromEntries(Object.entries(options).filter(([k]) => sections.some((s) => k === s || k.startsWith(`${s}.`))));
const without = (options: StateKey, ...sections: string[]): StateKey => {
  const gone = under(options, ...sections);
  return Object.fromEntries(Object.entries(options).filter(([k]) => !(k in gone)));
};

const hashOfQrels = (qrels: Qrels): string =>
  hashParts(canonicalJson([...qrels].map(([query, grades]) => [query, [...grades]])));

const judgedIn = (dataset: Dataset, split: string | null): number[] =>
  split !== null && dataset.splits.includes(split) ? judgedQueries(dataset, split) : [];

/** Of positions, ids and texts: what is kept names queries by position. */
const hashOfQueries = ({ queries }: Dataset, positions: readonly number[]): string =>
  hashParts(...positions.flatMap((i) => [String(i), queries.ids[i], queries.text(i)]));

/**
 * @param teacher key of the teacher, which stands for its model, tokenizer and truncation
 * @param embedder the same of the embedder
 */
export async function stageKeys(
  config: Config,
  dataset: Dataset,
  { teacher = '', embedder = '' }: { teacher?: string; embedder?: string },
): Promise<StageKeys> {
  const options = effectiveOptions(config);
  const { train, dev, test } = config.data.splits;
  const { source } = config.candidates;
  const student = await studentKey(config);
  const limits = under(options, 'student');
  const judged = (split: string | null): string =>
    split !== null && dataset.splits.includes(split) ? hashOfQrels(dataset.qrels(split)) : '';
  const data = { version: VERSION, 'the documents': dataset.documents.hash };
  const asked = {
    'the training judgements': judged(train),
    'the training queries': hashOfQueries(dataset, trainingQueries(config, dataset)),
  };
  const measured = {
    'the dev judgements': judged(dev),
    'the dev queries': hashOfQueries(dataset, judgedIn(dataset, dev)),
  };
  const all = { 'the queries': dataset.queries.hash };
  const generated = config.generate?.score;
  const candidates = {
    ...data,
    ...asked,
    ...without(under(options, 'candidates'), 'candidates.refresh'),
    ...(generated && { ...under(options, 'generate'), "the student's tokenizer": student["the student's tokenizer"] }),
    ...((generated || source === 'random') && under(options, 'seed')),
    ...(source === 'student' && { ...student, ...limits }),
    ...((source === 'embedder' || (source === 'given' && generated)) && { 'the embedder': embedder }),
    ...(source === 'given' && { 'the teacher': teacher }),
  };
  const looks =
    config.querySelection && toQuerySelection(config.querySelection).needs.some((n) => LOOKS_AT_STUDENT.has(n));
  const queries = {
    ...candidates,
    ...(config.querySelection && under(options, 'querySelection', 'seed')),
    ...(looks && { ...student, ...limits, ...(config.student.towers === 'query' && { 'the embedder': embedder }) }),
  };
  const scores = { ...queries, 'the teacher': teacher };
  const ensemble = await modelsKey('weighting.teachers', config.weighting.teachers);
  const training = {
    ...without(options, 'evaluate', 'export'),
    ...data,
    ...asked,
    ...student,
    ...measured,
    'the teacher': teacher,
    'the embedder': embedder,
    ...ensemble,
    ...(await modelsKey('online.teachers', config.online?.teachers)),
    ...(await lossModules(config.losses, config.folder)),
  };
  const evaluation = {
    ...training,
    ...under(options, 'evaluate'),
    'the test judgements': judged(test),
    'the test queries': hashOfQueries(dataset, judgedIn(dataset, test)),
  };
  return {
    data: { ...data, ...all, ...asked, ...measured, 'the test judgements': judged(test) },
    candidates,
    queries,
    'teacher scores': scores,
    embeddings: { ...data, ...asked, 'the embedder': embedder },
    weights: {
      ...scores,
      ...ensemble,
      ...under(options, 'weighting', 'selection', 'seed', 'data.labelled', 'train.pseudoLabels'),
    },
    training,
    checkpoint: training,
    evaluation,
    export: { ...evaluation, ...under(options, 'export') },
  };
}

/** Of the encoder that the student starts from. One that the run makes follows from options and data. */
async function studentKey({ student }: Config): Promise<StateKey> {
  const files = student.kind === 'model' ? await readModelFolder(student.model) : undefined;
  return {
    "the student's model": files ? await modelHash(files.model) : 'made by the run',
    "the student's tokenizer": files ? (await TextTokenizer.load(files.folder)).hash : 'made by the run',
  };
}

async function modelsKey(option: string, models: readonly string[] = []): Promise<StateKey> {
  const entries: [string, string][] = [];
  for (const [i, model] of models.entries()) {
    const key = isScoreFile(model) ? scoreFileKey([model]) : modelHash((await readModelFolder(model)).model);
    entries.push([`${option}.${i}`, await key]);
  }
  return Object.fromEntries(entries);
}

/** What the embedder is asked for. A user's own loss may ask for both; what it needs is known when it is loaded. */
export function embedsWhat(config: Config): { documents: boolean; queries: boolean } {
  const frozen = config.student.towers === 'query';
  const needs = needsOf(toLosses(registered(config.losses), frozen, config.matryoshka));
  return { documents: frozen || needs.has('teacherDocuments'), queries: needs.has('teacherQueries') };
}

/**
 * Whether anything of a run reads what the teacher says of candidates: if nothing does, it is not asked.
 * @param needs of the losses
 */
export function readsScores({ pipeline, selection, weighting, train }: Config, needs: ReadonlySet<LossInput>): boolean {
  return (
    needs.has('teacher') ||
    train.pseudoLabels ||
    selection.kind !== 'all' ||
    weighting.kind !== 'uniform' ||
    pipeline === 'active' ||
    pipeline === 'online'
  );
}

/** The stages that a run comes past. */
export function stagesOf(config: Config): Set<StageName> {
  const needs = needsOf(toLosses(registered(config.losses), config.student.towers === 'query', config.matryoshka));
  const module = config.losses.some((l) => l.kind === 'module');
  const { documents, queries } = embedsWhat(config);
  const absent: [StageName, boolean][] = [
    ['candidates', !module && !comparesDocuments(needs)],
    ['queries', !config.querySelection || config.pipeline === 'active'],
    ['teacher scores', !config.teacher || !(module || readsScores(config, needs))],
    ['embeddings', !config.embedder || !(documents || queries)],
    ['weights', config.weighting.kind === 'uniform'],
    ['export', !config.export],
  ];
  return new Set(stageNames.filter((s) => !absent.some(([name, isAbsent]) => isAbsent && name === s)));
}
