/**
 * @file Online distillation: the student follows a sequence of teacher checkpoints, each no harder to follow than it must be,
 * and ends with the teacher itself.
 * @source Harutyunyan et al., ICLR 2023 (arXiv 2301.12245)
 */

import type { Config } from '../config/config.ts';
import type { CandidateLists } from '../data/lists.ts';
import type { RunContext } from '../run/context.ts';
import { derive, type Result } from '../run/stages/stage.ts';
import { trainStudent } from './fit/train-student.ts';
import { teacherScores } from './prepare/candidates.ts';
import { openStudent } from './prepare/open-student.ts';
import { annotate, gather, trainingSet } from './prepare/training-set.ts';
import { publish } from './publish/publish.ts';
import type { Published } from './publish/report-stage.ts';

export async function online(run: RunContext): Promise<Published> {
  const { teachers, share } = run.config.online as NonNullable<Config['online']>;
  const teacher = run.config.teacher as Extract<Config['teacher'], { model: string }>;
  const student = await openStudent(run);
  const gathered = await gather(run, student);
  const asked = await annotate(run, student, gathered);
  const set = await trainingSet(run, student, gathered, asked);

  // Scores of the very pairs that are trained on by each earlier checkpoint, asked in a run of its own.
  const { data, examples } = set;
  const pairs = derive(
    { examples },
    ({ examples: e }): CandidateLists => ({
      queries: e.queries,
      offsets: e.offsets,
      documents: e.documents,
      scores: e.scores.map(() => Number.NaN),
    }),
  );
  const scores: Record<string, Result<CandidateLists>> = {};
  for (const [i, model] of teachers.entries())
    scores[i] = await run.inside(`teacher-${i + 1}`, (own) =>
      own.withTeacher({ ...teacher, model }, (opened) => own.stage(teacherScores, { lists: pairs, data, opened })),
    );
  const earlier = derive({ ...scores, shared: run.option('online.share') }, ({ shared, ...all }) => ({
    scores: Object.values(all as unknown as Record<string, CandidateLists>).map((lists) => lists.scores),
    share,
  }));

  const trained = await trainStudent(run, set, { earlier });
  const { annotated } = asked;
  const count = run.config.querySelection && derive({ annotated }, (v) => v.annotated.indices.length);
  return publish(run, set, trained, count);
}
