/** @file From a data set to what a student is taught: queries, candidates, the teacher's scores, embeddings. */
import { InputError } from '../../common/errors.ts';
import { type Dataset, learnedTexts } from '../../data/dataset.ts';
import { type CandidateLists, candidateLists, joined, listsAt, withoutUnscored } from '../../data/lists.ts';
import { freshModel } from '../../models/new-model.ts';
import { loadStudent, type Student } from '../../students/student.ts';
import type { BatchSource } from '../../training/batches/dual-encoder-batch.ts';
import { comparesDocuments } from '../config/losses.ts';
import { startFolder } from '../config/student.ts';
import type { Job } from '../run/context.ts';
import { readsScores } from '../run/stage-keys.ts';
import { trainingQueries } from '../run/training-queries.ts';
import { warnOfScores } from '../run/warnings.ts';
import { findCandidates, scoreCandidates } from './candidates.ts';
import { checkExport } from './check-export.ts';
import { embed, embedTargets, type Targets } from './embeddings.ts';
import { makeExamples } from './examples.ts';
import { keptChoice, keptLists } from './kept-arrays.ts';
import { generateTexts, withQueries } from './queries.ts';
import { chooseQueries } from './query-selection.ts';
import type { Lesson } from './types.ts';

/** The encoder to train, made first where it is a new one. */
export const openStudent = (job: Job): Promise<Student> =>
  job.stage('open student', async () => {
    const { student, seed } = job.config;
    const model = startFolder(student) as string;
    // A vocabulary of what is searched and what is learned from: a test query must not have shaped it.
    const texts = learnedTexts(job.dataset, trainingQueries(job.config, job.dataset));
    if (student.kind === 'fresh') await freshModel(model, texts, { ...student.fresh, seed });
    return loadStudent(model, student);
  });

/** Queries to learn from, with their candidates; not yet scored where the teacher has to be asked. */
export async function gather(job: Job, student: Student): Promise<{ dataset: Dataset; lists: CandidateLists }> {
  const { config } = job;
  const { generate, data } = config;
  const made = generate?.score
    ? await job.stage('generate', () => generateTexts(job.dataset.documents, generate, student.tokenizer, config.seed))
    : [];
  const dataset = withQueries(job.dataset, made);
  const own = trainingQueries(config, job.dataset);
  if (!comparesDocuments(job.needs)) return { dataset, lists: withoutCandidates(job, own) };
  const lists = await keptLists(job, async () => {
    const find = (queries: readonly number[], source = config.candidates.source): Promise<CandidateLists> =>
      job.stage('candidates', () =>
        findCandidates(
          { ...config, candidates: { ...config.candidates, source } },
          dataset,
          data.splits.train,
          queries,
          job.embedder,
          job.watch,
        ),
      );
    const found = await find(own);
    if (!made.length) return found;
    const positions = made.map((_, i) => job.dataset.queries.length + i);
    const given = config.candidates.source === 'given';
    return joined(found, await find(positions, given ? (job.embedder ? 'embedder' : 'bm25') : undefined));
  });
  if (made.length) job.note(`${made.length} texts made of documents stand beside the queries`);
  return { dataset, lists };
}

/** Queries with their positive alone (or any document): nothing looks at it. */
function withoutCandidates({ config, dataset }: Job, queries: readonly number[]): CandidateLists {
  const qrels = dataset.qrels(config.data.splits.train);
  return candidateLists(
    queries.map((query) => {
      const [relevant] = [...(qrels.get(dataset.queries.ids[query]) ?? [])].filter(([, grade]) => grade > 0);
      return { query, documents: [relevant ? (dataset.documents.indexOf(relevant[0]) ?? 0) : 0], scores: [0] };
    }),
  );
}

/** What the teacher says of each candidate; those that it cannot say a number of are left out. */
export async function score(job: Job, dataset: Dataset, lists: CandidateLists): Promise<CandidateLists> {
  if (!job.teacher) return lists;
  if (!readsScores(job.config, job.needs)) {
    job.note('nothing reads the scores of candidates: the teacher is not asked for them');
    return lists;
  }
  const before = job.asked();
  const scored = await job.stage('score', () => scoreCandidates(lists, dataset, job.teacher, job.watch));
  job.did('teacher scores', job.asked() > before);
  const { lists: kept, leftOut } = withoutUnscored(scored);
  if (leftOut)
    job.warn(
      'teacher.not-finite',
      `${leftOut} of ${scored.documents.length} candidates are left out: what the teacher says of them is not finite`,
    );
  return kept;
}

/** What the teacher says under the budget of the config, where there is one; of everything otherwise. */
export async function ask(
  job: Job,
  student: Student,
  dataset: Dataset,
  lists: CandidateLists,
): Promise<{ scored: CandidateLists; weights?: Float32Array; asked?: number }> {
  const { querySelection } = job.config;
  if (!querySelection) return { scored: await score(job, dataset, lists) };
  const { indices, weights } = await keptChoice(job, async () => {
    const frozen = job.frozenDocuments ? (await embedTargets(job, dataset, lists.queries)).documents : undefined;
    return chooseQueries(job, { student, dataset, lists, frozen }, new Map(), querySelection.budget);
  });
  return { scored: await score(job, dataset, listsAt(lists, indices)), weights, asked: indices.length };
}

/**
 * Examples, embeddings and texts to match: everything that training reads.
 * @param known what is made already
 */
export async function prepare(
  job: Job,
  student: Student,
  dataset: Dataset,
  lists: CandidateLists,
  known: { weights?: Float32Array; targets?: Targets; extra?: BatchSource['extra'] } = {},
): Promise<Lesson> {
  const { config } = job;
  if (job.teacher && job.needs.has('teacher')) warnOfScores(lists, job.warn);
  const { examples, leftOut } = makeExamples(config, dataset, config.data.splits.train, lists, known.weights);
  if (leftOut) job.note(`${leftOut} queries have no candidate and are left out`);
  if (!examples.queries.length)
    throw new InputError({
      code: 'run.nothing-to-learn',
      subject: `no query of the split '${config.data.splits.train}' has a candidate`,
      remedy: 'choose another candidates.source or add queries',
    });
  job.note(`${examples.queries.length} training queries with ${examples.documents.length} candidates`);
  const targets = known.targets ?? (await embedTargets(job, dataset, examples.queries));
  checkExport(job, student, targets);
  return { student, dataset, examples, targets, extra: known.extra ?? (await extraTexts(job, student)) };
}

/** Generated texts that are only matched to the embedder. */
export async function extraTexts(job: Job, student: Student): Promise<BatchSource['extra']> {
  const { config } = job;
  if (!config.train.spans) return undefined;
  const options = config.generate ?? {
    kind: 'spans' as const,
    count: DEFAULT_SPANS,
    tokens: [5, 13] as [number, number],
  };
  const texts = await job.stage('generate', () =>
    generateTexts(job.dataset.documents, options, student.tokenizer, config.seed),
  );
  if (!texts.length)
    throw new InputError({
      code: 'run.nothing-generated',
      subject: `no ${options.kind} can be made of the documents`,
      remedy: "use 'generate.kind: spans', or remove 'train.spans'",
    });
  job.note(`${texts.length} ${options.kind} of documents are matched too`);
  const embeddings = await job.stage('embed', () => embed(job.embedder)(texts, 'query', job.watch));
  const tokens = texts.map((t) => student.queryTokens(t, config.student.queryTokens));
  return { count: texts.length, embeddings, tokens: (i) => tokens[i] };
}

const DEFAULT_SPANS = 100_000;
