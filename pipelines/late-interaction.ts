/**
 * @file Trains a re-ranker over cached token vectors of documents (late interaction, decoupled context processing): the encoders are
 * frozen, so that their states are computed once, and projections and a small scorer learn the teacher's scores.
 */

import type { RunContext } from '../run/context.ts';
import { stagesMade } from '../run/stages/run-log.ts';
import { derive, given, type Result } from '../run/stages/stage.ts';
import { lateEvaluation } from './late/evaluation.ts';
import { lateCheckpoint } from './late/save.ts';
import { frozenStates } from './late/states.ts';
import { lateTraining } from './late/train.ts';
import { openStudent } from './prepare/open-student.ts';
import { annotate, gather, trainingSet } from './prepare/training-set.ts';
import type { Published } from './publish/report-stage.ts';

export async function lateInteraction(run: RunContext): Promise<Published> {
  const { teacher, losses } = run;
  const embedder = run.embedder as NonNullable<RunContext['embedder']>;
  const student = await openStudent(run);

  // The candidates of each query, and the teacher's scores of them.
  const gathered = await gather(run, student);
  const asked = await annotate(run, student, gathered);
  const { examples } = await trainingSet(run, student, gathered, asked);

  // States of all queries and documents by the frozen encoders, then a training over them.
  const states = await run.stage(frozenStates, { data: run.data.all, trained: gathered.data, student, embedder });
  const { training: data, dev, test } = run.data;
  const trained = await run.stage(lateTraining, { student, states, dev, data, examples, losses });

  // The folder that is saved is what is measured.
  const config = given(run.config);
  const saved = await run.stage(lateCheckpoint, { student, states, trained, data, teacher, embedder, config });
  const log = given(run.log);
  const report = await run.stage(lateEvaluation, { states, trained, saved, data: test, teacher, config, log });
  const whole = derive({ report }, ({ report: { systems, ...rest } }) => ({
    ...rest,
    systems: systems.map(({ role: _, ...system }) => system),
    stages: stagesMade(run.log),
  }));
  if (!run.dry) await whole.value();
  return { checkpoint: saved, report: whole as Result<Awaited<ReturnType<Published['report']['value']>>> };
}
