/** @file The teacher is measured before it is believed: does it rank dev candidates better than the encoder as it was? */

import { openFirstEncoder } from '../../candidates/first-encoder.ts';
import { startFolder, trainedEncoder } from '../../config/student.ts';
import { type Dataset, isGenerated, judgedQueries } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import type { Run } from '../../evaluation/metrics/evaluate.ts';
import { type OrdersOnDev, ordersBefore, splitName, teacherVerdict } from '../../evaluation/runs/verdict.ts';
import { choiceScore, rerank } from '../../evaluation/systems/retrieve.ts';
import { Random } from '../../math/random.ts';
import type { RunContext } from '../../run/context.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { defineStage, derive, type Result } from '../../run/stages/stage.ts';
import type { Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';

/** Dev queries and candidates of each: 4,000 pairs say enough and are scored in a minute or two. */
const QUERIES = 200;
const CANDIDATES = 20;

const teacherOnDev = defineStage({
  name: 'teacher on dev',
  options: [],
  unrecorded: ['student', 'data.splits', 'train.provider', 'train.threads'],
  async make(
    { student, data, train },
    { documents: dataset, opened }: { documents: Dataset; dev: unknown; student: Student; opened: OpenedTeacher },
    { time, watch },
  ): Promise<OrdersOnDev> {
    const dev = data.splits.dev as string;
    const { pooling, normalize, prompts, queryTokens, documentTokens } = student;
    const limits = { pooling, normalize, prompts, queryTokens, documentTokens, session: await computeOn(train) };
    const encoder = await openFirstEncoder(startFolder(student) as string, null, limits);
    try {
      return await time('teacher on dev', async () => {
        const judged = judgedQueries(dataset, dev);
        const asked = [...Random.of(0, 'teacher on dev').shuffle(Int32Array.from(judged))].slice(0, QUERIES);
        const near = await encoder.near(dataset, asked, CANDIDATES, watch);
        const run: Run = new Map(
          asked.map((q, i) => {
            const ids = near[i].map((d) => dataset.documents.ids[d]);
            return [dataset.queries.ids[q], { ids, scores: Float32Array.from(ids, (_, rank) => -rank) }];
          }),
        );
        const before = await ordersBefore(run, dataset, dev, encoder.teacher, watch);
        const own = await rerank(dataset, run, opened.teacher as NonNullable<OpenedTeacher['teacher']>, watch);
        return { teacher: choiceScore(own, dataset, dev), ...before, queries: run.size };
      });
    } finally {
      await encoder.close();
    }
  },
  keep: keepArrays<OrdersOnDev>(
    'teacher-on-dev',
    ({ teacher, encoder = Number.NaN, queries }) => ({ values: Float64Array.of(teacher, encoder, queries) }),
    ({ values }) => {
      const [teacher, encoder, queries] = values as Float64Array;
      return { teacher, encoder, queries };
    },
  ),
});

/** What a training does about a weak teacher. */
const followsFrom = ({ labelsTeach, generated }: { labelsTeach: boolean; generated: boolean }): string =>
  labelsTeach
    ? '. Here labels alone teach'
    : generated
      ? ". Generated queries repeat words of their documents and are no evidence against a teacher, which is kept: judge some dev queries, or set 'train.onWeakTeacher: labels' to leave it out"
      : '';

/**
 * Says before a training whether its teacher ranks no better than the encoder that the student is cut from. Measured where dev
 * chooses the weights too, through the score cache.
 * @returns the losses of the training: with `train.onWeakTeacher: labels` those that read a weak teacher's scores count for nothing
 */
export async function measureTeacherOnDev(run: RunContext, student: Result<Student>): Promise<RunContext['losses']> {
  const { config, teacher, needs, losses } = run;
  const { data, evaluate, train, student: start } = config;
  const asks = teacher && config.teacher?.kind !== 'scores' && needs.has('teacher') && evaluate.teacher;
  const whole = trainedEncoder(start) !== undefined && start.towers === 'both';
  const chooses = data.splits.dev !== null && train.evaluateEvery !== null;
  if (!asks || !whole || !chooses) return losses;
  const dev = data.splits.dev as string;
  const inputs = { documents: run.data.documents, dev: run.data.dev, student, opened: teacher };
  const measured = await run.stage(teacherOnDev, inputs);
  const labelsTeach = train.onWeakTeacher === 'labels' && needs.has('positives');
  if (!run.dry) {
    const { bm25: _, ...orders } = await measured.value();
    const dataset = await run.data.dev.value();
    const generated = isGenerated(dataset, dev);
    const said = teacherVerdict(orders, splitName(dataset, dev));
    if (said) run.warn('teacher.no-better', `${said}${followsFrom({ labelsTeach, generated })}`);
    else
      run.note(
        `the teacher ranks better than the encoder as it was: nDCG@10 ${orders.teacher.toFixed(4)} compared with ${orders.encoder?.toFixed(4)} over the same candidates of ${orders.queries} dev queries`,
      );
  }
  if (!labelsTeach) return losses;
  return derive({ losses, measured }, ({ losses: all, measured: { bm25: _, ...orders } }) =>
    teacherVerdict(orders, dev) ? all.map((l) => (l.loss.needs.includes('teacher') ? { ...l, weight: 0 } : l)) : all,
  );
}
