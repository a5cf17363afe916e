/** @file From a data set to a training set: queries, candidates, the teacher's scores, embeddings. */
import { InputError } from '../../common/errors.ts';
import type { Config } from '../../config/config.ts';
import { comparesDocuments } from '../../config/losses.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type CandidateLists, candidateLists, listsAt } from '../../data/lists.ts';
import type { TextTokenizer } from '../../data/tokenizer.ts';
import { withDocuments } from '../../generation/perturbed/changed-candidates.ts';
import { generateTexts, type TextOptions, withQueries } from '../../generation/spans.ts';
import type { LossInput } from '../../losses/index.ts';
import type { RunContext } from '../../run/context.ts';
import { trainingQueries } from '../../run/data.ts';
import { defineStage, derive, given, type Result } from '../../run/stages/stage.ts';
import type { Student, Weights } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { embed } from '../../teachers/teacher.ts';
import type { BatchSource, EmbeddedTexts, Examples } from '../../training/batches/dual-encoder-batch.ts';
import { candidates, teacherScores } from './candidates.ts';
import { changedDocuments } from './changed-documents.ts';
import { filterWritten, type WrittenQueries, withWritten, writtenQueries } from './chat-queries.ts';
import { embedDocuments, embedQueries, type Targets } from './embeddings.ts';
import { examples } from './examples.ts';
import { keptTexts } from './kept-texts.ts';
import { tokenizerOf } from './open-student.ts';
import { type Annotated, type Chosen, looksAtStudent, querySelection } from './query-selection.ts';
import { inOrderOfArrival } from './stream-order.ts';

/** Everything that training reads. */
export interface TrainingSet {
  student: Result<Student>;
  /** The data set, with generated queries behind its own where there are some. */
  data: Result<Dataset>;
  examples: Result<Examples>;
  targets: Targets;
  /** Texts that have only the embedder's vector. */
  extra?: Result<NonNullable<BatchSource['extra']>>;
  /** General spans, with the embeddings of the encoder as it was. */
  kept?: Result<EmbeddedTexts>;
}

/** Queries to learn from, with their candidates. */
export interface Gathered {
  data: Result<Dataset>;
  lists: Result<CandidateLists>;
  /** Queries that a language model wrote, which the teacher has to confirm. */
  written?: Result<WrittenQueries>;
}

/** Queries to learn from, with their candidates; not yet scored where the teacher has to be asked. */
export async function gather(run: RunContext, student: Result<Student>): Promise<Gathered> {
  const { source } = run.config.candidates;
  const { generate } = run.config;
  const written = generate?.kind === 'chat' ? await run.stage(writtenQueries, { data: run.data.training }) : undefined;
  const { train } = run.config.data.splits;
  const asked = run.data.training;
  const own = written ? derive({ asked, written }, (v) => withWritten(v.asked, v.written, train)) : asked;
  const generated =
    generate?.score && !written
      ? await run.stage(generatedQueries, { data: run.data.documents, tokenizer: tokenizerOf(run, student) })
      : undefined;
  const data = generated ? derive({ own, generated }, (v) => withQueries(v.own, v.generated)) : own;
  if (!comparesDocuments(run.needs))
    return { data, lists: derive({ own }, (v) => positivesAlone(run.config, v.own)), written };
  const both = source === 'hybrid';
  const embedded = source === 'embedder' || both || ((source === 'given' || source === 'auto') && generated);
  const lists = await run.stage(candidates, {
    data: own,
    generated,
    embedder: embedded ? run.embedder : undefined,
    student: source === 'student' || (both && !run.embedder) ? student : undefined,
    dev: both ? run.data.dev : undefined,
    teacher: source === 'given' ? run.teacher : undefined,
    seed: source === 'random' ? run.option('seed') : undefined,
  });
  if (!run.config.candidates.changed) return { data, lists, written };
  const changed = await run.stage(changedDocuments, { data, lists });
  return {
    data: derive({ data, changed }, (v) => withDocuments(v.data, v.changed.texts)),
    lists: derive({ changed }, (v) => v.changed.lists),
    written,
  };
}

/** Scored queries: their candidates, and the teacher's scores of them. */
export interface Asked {
  lists: Result<CandidateLists>;
  annotated: Result<Annotated>;
  /** Vectors of all documents, where they are embedded already. */
  documents?: Targets['documents'];
}

/** The current student of a selection, and what has been annotated before. */
export interface Before {
  weights?: Result<Weights>;
  annotated?: Result<Annotated>;
  round?: { round: number; of: number };
  documents?: Targets['documents'];
}

/** The queries that the teacher scores (all of them, where there is no budget), with the teacher's scores. */
export async function annotate(
  run: RunContext,
  student: Result<Student>,
  { data, lists }: Gathered,
  { weights, annotated, round, documents: known }: Before = {},
): Promise<Asked> {
  const { querySelection: selection } = run.config;
  const looks = selection && looksAtStudent(selection);
  const documents = known ?? (looks && run.frozenDocuments ? await embedDocuments(run) : undefined);
  const chosen = selection
    ? await run.stage(querySelection, {
        lists,
        data,
        student: looks ? student : undefined,
        frozen: looks && run.frozenDocuments ? documents : undefined,
        weights,
        annotated,
        round: round && given(round, { 'the round': `${round.round + 1} of ${round.of}` }),
      })
    : undefined;
  const asked = derive({ lists, chosen, annotated }, (v) => askedAbout(v.lists, v.chosen, v.annotated));
  const own = derive({ asked }, (v) => v.asked.scored);
  const scored = await score(run, data, own);
  return { lists: own, documents, annotated: derive({ asked, scored }, (v) => ({ ...v.asked, scored: v.scored })) };
}

/** The teacher's scores of the candidates, where anything reads them. */
async function score(
  run: RunContext,
  data: Result<Dataset>,
  lists: Result<CandidateLists>,
): Promise<Result<CandidateLists>> {
  if (!run.teacher) return lists;
  if (readsScores(run.config, run.needs)) return run.stage(teacherScores, { lists, data, opened: run.teacher });
  run.note('nothing reads the scores of candidates: the teacher is not asked for them');
  return lists;
}

/**
 * Examples, embeddings and texts to match.
 * @param queries vectors of the queries, where they are embedded already
 */
export async function trainingSet(
  run: RunContext,
  student: Result<Student>,
  { data, written }: Gathered,
  { lists, annotated, documents }: Asked,
  queries?: Targets['queries'],
): Promise<TrainingSet> {
  const budget = run.config.querySelection;
  const first = run.data.training;
  const best = run.option('generate');
  const confirmed = derive({ annotated, written, first, best: written && best }, (v) => {
    const { scored, weights } = v.annotated;
    if (!v.written) return { scored, weights };
    const kept = filterWritten(scored, weights, v.written, v.first.queries.length, v.best?.generate?.best ?? 1);
    run.note(
      `${kept.leftOut} of ${v.written.texts.length} written queries are left out: their documents are not among the teacher's best`,
    );
    return kept;
  });
  const scored = derive({ confirmed }, (v) => v.confirmed.scored);
  const own = written || run.config.candidates.changed ? data : run.data.training;
  const chosen = await run.stage(examples, {
    data: own,
    lists: scored,
    factors:
      budget &&
      derive({ confirmed }, (v) => v.confirmed.weights ?? new Float32Array(v.confirmed.scored.queries.length).fill(1)),
    read: given(Boolean(run.teacher) && run.needs.has('teacher')),
  });
  const made = await inOrderOfArrival(run, data, chosen);
  const learned = derive({ made }, (v) => v.made.queries);
  const targets = {
    documents: documents ?? (await embedDocuments(run)),
    queries: queries ?? (await embedQueries(run, { data, lists, queries: learned })),
  };
  return {
    student,
    data,
    examples: made,
    targets,
    extra: await extraTexts(run, student),
    kept: await keptTexts(run, student),
  };
}

/** Generated texts that are only matched to the embedder. */
async function extraTexts(run: RunContext, student: Result<Student>): Promise<TrainingSet['extra']> {
  if (!run.config.train.spans || !run.embedder) return undefined;
  return run.stage(matchedTexts, { data: run.data.documents, student, embedder: run.embedder });
}

/** Whether anything of a run reads the teacher's scores of candidates: if nothing does, it is not asked. */
function readsScores({ pipeline, selection, weighting, train }: Config, needs: ReadonlySet<LossInput>): boolean {
  return (
    needs.has('teacher') ||
    train.pseudoLabels ||
    selection.kind !== 'all' ||
    weighting.kind !== 'uniform' ||
    pipeline === 'active' ||
    pipeline === 'online'
  );
}

const generatedQueries = defineStage({
  name: 'generated queries',
  options: ['generate', 'seed'],
  async make({ generate, seed }, { data, tokenizer }: { data: Dataset; tokenizer: TextTokenizer }, { time, note }) {
    if (!generate || !isTextKind(generate)) return [];
    const texts = await time('generate', () => generateTexts(data.documents, generate, tokenizer, seed));
    if (texts.length) note(`${texts.length} texts made of documents are added to the queries`);
    return texts;
  },
});

/** Whether texts are cut from documents; those of a language model are made by a stage of their own. */
const isTextKind = (g: NonNullable<Config['generate']>): g is NonNullable<Config['generate']> & TextOptions =>
  g.kind !== 'chat';

/** Queries with their positive alone (or any document): nothing looks at it. */
function positivesAlone({ data: options }: Options<'data'>, data: Dataset): CandidateLists {
  const qrels = data.qrels(options.splits.train);
  return candidateLists(
    trainingQueries({ data: options }, data).map((query) => {
      const [relevant] = [...(qrels.get(data.queries.ids[query]) ?? [])].filter(([, grade]) => grade > 0);
      return { query, documents: [relevant ? (data.documents.indexOf(relevant[0]) ?? 0) : 0], scores: [0] };
    }),
  );
}

/** All that has been chosen, with its candidates as they are before they are scored. */
function askedAbout(lists: CandidateLists, chosen: Chosen | undefined, before: Annotated | undefined): Annotated {
  if (!chosen) return { indices: Int32Array.from(lists.queries.keys()), scored: lists };
  const factors = (c: Chosen | undefined): number[] => [...(c?.weights ?? c?.indices.map(() => 1) ?? [])];
  const indices = Int32Array.from([...(before?.indices ?? []), ...chosen.indices]);
  const weights = Float32Array.from([...factors(before), ...factors(chosen)]);
  return { indices, weights, scored: listsAt(lists, indices) };
}

/** Spans by default. */
const matchedTexts = defineStage({
  name: 'matched texts',
  options: ['train.spans', 'generate', 'seed', 'student.queryTokens'],
  async make(
    { generate, seed, student: { queryTokens } },
    { data, student, embedder }: { data: Dataset; student: Student; embedder: OpenedTeacher },
    { note, time, watch },
  ): Promise<NonNullable<BatchSource['extra']>> {
    const spans = { kind: 'spans' as const, count: DEFAULT_SPANS, tokens: [5, 13] as [number, number] };
    const options = generate && isTextKind(generate) ? generate : spans;
    const texts = await time('generate', () => generateTexts(data.documents, options, student.tokenizer, seed));
    if (!texts.length)
      throw new InputError({
        code: 'run.nothing-generated',
        subject: `no ${options.kind} can be made of the documents`,
        remedy: "use 'generate.kind: spans', or remove 'train.spans'",
      });
    note(`${texts.length} ${options.kind} of documents are matched too`);
    const embeddings = await time('embed', () => embed(embedder.teacher)(texts, 'query', watch));
    const tokens = texts.map((t) => student.queryTokens(t, queryTokens));
    return { count: texts.length, embeddings, tokens: (i) => tokens[i] };
  },
});

const DEFAULT_SPANS = 100_000;
