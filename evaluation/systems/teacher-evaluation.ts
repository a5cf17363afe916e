/** @file Evaluates the teacher, and the student on the same candidates. */
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { PromptOptions } from '../../models/modules/prompts.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { cutRun, dropIdenticalIds, isQueryItself, type Run } from '../metrics/evaluate.ts';
import { type Measured, rerankByVectors } from './compare-systems.ts';
import type { EvaluationTable } from './evaluation-table.ts';
import { beginningOf, type CostJob } from './model-cost.ts';
import { isScoreFile, openTeacher, scoresAsRun } from './reference-systems.ts';
import { means, rerank, retrieve, teacherSearcher, type Vectors } from './retrieve.ts';

export interface TeacherEvaluationOptions {
  dataset: Dataset;
  split: string;
  /** Folder of a cross-encoder or dual-encoder, or a file of scores. */
  teacher?: string;
  /** Candidates that the teacher re-ranks; the student's results by default. */
  source?: { name: string; run: Run };
  /** Documents per query that it re-ranks, and that a search returns. */
  depth: number;
  reach: number;
  /** Number of queries for timing. */
  costQueries: number;
  /** The teacher's truncation of texts. */
  limits: { queryTokens?: number; documentTokens?: number; prompts?: PromptOptions };
  cache: ScoreCache;
}

export interface TeacherEvaluation {
  /** Both on the same candidates; absent without a teacher. */
  same?: { student: Measured; teacher: Measured };
  /** The candidates, if they are not the student's results. */
  given?: Run;
  /** The teacher's job for timing. */
  timed: CostJob[];
}

/** Measures the teacher and compares the student with it. @param student the student's own run */
export async function measureTeacher(
  table: EvaluationTable,
  student: Measured,
  vectors: Vectors,
  options: TeacherEvaluationOptions,
  watch: RunControl,
): Promise<TeacherEvaluation> {
  const { dataset, split, teacher: path, source, depth } = options;
  const itself = isQueryItself(dataset);
  const found: TeacherEvaluation = { timed: [] };
  const onCandidates = (run: Run): Run => rerankByVectors(run, dataset, vectors);
  if (path && isScoreFile(path)) {
    found.given = dropIdenticalIds(await scoresAsRun(path, dataset, (text) => table.note(text)), itself);
    found.same = {
      teacher: table.add('teacher', 'teacher', found.given),
      student: table.add('student', "student on the teacher's candidates", onCandidates(found.given)),
    };
  } else {
    let from = "the student's candidates";
    if (source) {
      found.given = dropIdenticalIds(source.run, itself);
      table.add('other', source.name, found.given);
      from = `${source.name}'s candidates`;
    }
    if (path) {
      const { given } = found;
      const pool = given ?? cutRun(student.run, depth);
      const opened = await openTeacher(path, options.limits);
      for (const note of opened.notes ?? []) table.note(note);
      try {
        const teacher = options.cache.wrap(opened);
        if (teacher.embed) {
          const { reach } = options;
          const full = await retrieve(teacherSearcher(teacher.embed), { dataset, split, depth: reach }, watch);
          table.compare(student, table.add('teacher', 'teacher', full.run), 'full retrieval');
        }
        found.same = {
          teacher: table.add('teacher', `teacher on ${from}`, await rerank(dataset, pool, teacher, watch)),
          student: given
            ? table.add('student', `student on ${from}`, onCandidates(pool))
            : table.measure('student', pool),
        };
        if (opened.kind !== 'dual-encoder') found.timed.push(rerankings(path, dataset, pool, options));
      } finally {
        await opened.dispose();
      }
    }
  }
  if (found.same) {
    const { same, given } = found;
    table.compare(same.student, same.teacher, 'the same candidates', 'first');
    if (given) table.compare(student, same.teacher, 'full retrieval');
    const recall = `recall@${depth}`;
    const ceiling = means(given ?? student.run, dataset, split, [recall])[recall];
    table.note(
      `the teacher's candidates hold ${(100 * ceiling).toFixed(1)} % of the relevant documents, which is the upper bound of its recall`,
    );
  }
  return found;
}

/** A cross-encoder's timing job over some queries. */
function rerankings(folder: string, dataset: Dataset, pool: Run, options: TeacherEvaluationOptions): CostJob {
  const text = (id: string): string => beginningOf(dataset.documents.text(dataset.documents.indexOf(id) as number));
  return {
    name: 'teacher',
    kind: 'cross-encoder',
    folder,
    lists: [...pool].slice(0, options.costQueries).map(([query, { ids }]) => ({
      query: beginningOf(dataset.queries.text(dataset.queries.indexOf(query) as number)),
      documents: ids.slice(0, options.depth).map(text),
    })),
  };
}
