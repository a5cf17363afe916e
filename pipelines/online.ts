/**
 * @file Online distillation: the student follows a sequence of teacher checkpoints, each no harder to follow than it must be,
 * and ends with the teacher itself.
 * @source Harutyunyan et al., ICLR 2023 (arXiv 2301.12245)
 */
import type { Config } from './config/config.ts';
import { stepsOf, trainStudent } from './fit/train-student.ts';
import { scoreCandidates } from './prepare/candidates.ts';
import { ask, gather, openStudent, prepare } from './prepare/training-set.ts';
import { finish, type RunReport } from './publish/run-report.ts';
import type { Job } from './run/context.ts';
import { openTeachers } from './run/open-teachers.ts';

export async function online(job: Job): Promise<RunReport> {
  const { config } = job;
  const { teachers, share } = config.online as NonNullable<Config['online']>;
  const student = await openStudent(job);
  const { dataset, lists } = await gather(job, student);
  const { scored, weights, asked } = await ask(job, student, dataset, lists);
  const lesson = await prepare(job, student, dataset, scored, { weights });
  const { examples } = lesson;

  // What each earlier checkpoint says of the very pairs that are trained on.
  const phases: Float32Array[] = [];
  const unscored = examples.scores.map(() => Number.NaN);
  for (const model of teachers) {
    const teacher = { ...(config.teacher as Extract<Config['teacher'], { model: string }>), model };
    const earlier = await openTeachers({ ...config, teacher, embedder: undefined }, dataset);
    try {
      const pairs = { ...examples, scores: unscored };
      phases.push((await job.stage('score', () => scoreCandidates(pairs, dataset, earlier.teacher, job.watch))).scores);
    } finally {
      await earlier.close();
    }
  }
  const last = examples.scores.slice();
  const steps = share * stepsOf(config, examples.queries.length);

  const trained = await trainStudent(job, lesson, {
    // Which teacher speaks depends on the step alone, so that training goes on from saved state with the right one.
    async beforeStep(step) {
      examples.scores.set(step < steps ? phases[Math.floor((step / steps) * phases.length)] : last);
    },
  });
  return finish(job, student, trained, lesson.targets, { asked });
}
