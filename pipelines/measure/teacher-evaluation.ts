/** @file The teacher's part of an evaluation: what it finds, and the student on the same candidates. */
import type { Watch } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { cutRun, dropIdenticalIds, isQueryItself, type Run } from '../../evaluation/metrics/evaluate.ts';
import { search } from '../../retrieval/exact-search.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import { type Measured, rerankByVectors } from './compare-systems.ts';
import type { Made, Vectors } from './encode-split.ts';
import type { Ladder } from './evaluation-table.ts';
import type { CostJob } from './model-cost.ts';
import { candidateRun, isScoreFile, openTeacher, scoresAsRun } from './reference-systems.ts';
import { rerank, toRun } from './retrieve.ts';

export interface BesideOptions {
  dataset: Dataset;
  split: string;
  /** Folder of a cross-encoder or dual-encoder, or a file of scores. */
  teacher?: string;
  /** What the teacher re-ranks: `student`, `bm25` or a run file. */
  candidates: string;
  /** Documents a query that it re-ranks, and that a search finds. */
  depth: number;
  reach: number;
  /** Queries that it re-ranks while it is timed. */
  costQueries: number;
  made: Made;
  cache: ScoreCache;
}

export interface Beside {
  /** Both on the same candidates; absent without a teacher. */
  same?: { student: Measured; teacher: Measured };
  /** The candidates, where they are not the student's own. */
  given?: Run;
  /** What is timed of the teacher. */
  timed: CostJob[];
}

/** Measures the teacher and compares the student with it. @param student what the student finds by itself */
export async function measureTeacher(
  ladder: Ladder,
  student: Measured,
  vectors: Vectors,
  options: BesideOptions,
  watch: Watch,
): Promise<Beside> {
  const { dataset, split, teacher: path, candidates, depth } = options;
  const itself = isQueryItself(dataset);
  const beside: Beside = { timed: [] };
  const onCandidates = (run: Run): Run => rerankByVectors(run, dataset, vectors);
  if (path && isScoreFile(path)) {
    beside.given = dropIdenticalIds(await scoresAsRun(path, dataset), itself);
    beside.same = {
      teacher: ladder.add('teacher', 'teacher', beside.given),
      student: ladder.add('student', "student on the teacher's candidates", onCandidates(beside.given)),
    };
  } else {
    let from = "the student's candidates";
    if (candidates !== 'student') {
      const source = await candidateRun(candidates, dataset, split, depth, watch);
      beside.given = dropIdenticalIds(source.run, itself);
      ladder.add('other', source.name, beside.given);
      from = `${source.name}'s candidates`;
    }
    if (path) {
      const { given } = beside;
      const pool = given ?? cutRun(student.run, depth);
      const opened = await openTeacher(path, options.made.teacher);
      try {
        const teacher = options.cache.wrap(opened);
        if (opened.kind === 'dual-encoder')
          await retrieve(ladder, student, vectors, { teacher, dataset, reach: options.reach }, watch);
        beside.same = {
          teacher: ladder.add('teacher', `teacher on ${from}`, await rerank(dataset, pool, teacher, watch)),
          student: given
            ? ladder.add('student', `student on ${from}`, onCandidates(pool))
            : ladder.measure('student', pool),
        };
        if (opened.kind === 'cross-encoder') beside.timed.push(rerankings(path, dataset, pool, options));
      } finally {
        await opened.dispose();
      }
    }
  }
  if (beside.same) {
    const { same, given } = beside;
    ladder.compare(same.student, same.teacher, 'the same candidates', 'first');
    if (given) ladder.compare(student, same.teacher, 'full retrieval');
    const ceiling = ladder.mean(given ?? student.run, `recall@${depth}`);
    ladder.note(`the teacher's candidates hold ${(100 * ceiling).toFixed(1)} % of the relevant documents: its ceiling`);
  }
  return beside;
}

/** What a dual-encoder finds by itself. */
async function retrieve(
  ladder: Ladder,
  student: Measured,
  { positions }: Vectors,
  { teacher, dataset, reach }: { teacher: Teacher; dataset: Dataset; reach: number },
  watch: Watch,
): Promise<void> {
  if (!teacher.embed) return;
  const texts = positions.map((q) => dataset.queries.text(q));
  const q = await teacher.embed(texts, 'query', watch);
  const d = await teacher.embed(dataset.documents, 'document', watch);
  const hits = await search(q.data, d.data, q.dimensions, reach + 1, watch);
  const full = ladder.add('teacher', 'teacher', cutRun(toRun(dataset, positions, hits), reach));
  ladder.compare(student, full, 'full retrieval');
}

/** A cross-encoder's work for some queries, to be timed. */
function rerankings(folder: string, dataset: Dataset, pool: Run, options: BesideOptions): CostJob {
  const text = (id: string): string => dataset.documents.text(dataset.documents.indexOf(id) as number);
  return {
    name: 'teacher',
    kind: 'cross-encoder',
    folder,
    lists: [...pool].slice(0, options.costQueries).map(([query, { ids }]) => ({
      query: dataset.queries.text(dataset.queries.indexOf(query) as number),
      documents: ids.slice(0, options.depth).map(text),
    })),
  };
}
