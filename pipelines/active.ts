/** @file Rounds under a budget: choose queries with the current student, ask the teacher, train on all that is annotated. */
import type { Config } from '../config/config.ts';
import type { RunContext } from '../run/context.ts';
import { derive, type Result } from '../run/stages/stage.ts';
import type { Trained } from './fit/parts/fit.ts';
import { trainStudent } from './fit/train-student.ts';
import { embedDocuments, embedQueries } from './prepare/embeddings.ts';
import { openStudent } from './prepare/open-student.ts';
import { type Asked, annotate, type Gathered, gather, type TrainingSet, trainingSet } from './prepare/training-set.ts';
import { publish } from './publish/publish.ts';
import type { Published } from './publish/report-stage.ts';

interface Round {
  asked: Asked;
  set: TrainingSet;
  trained: Result<Trained>;
}

export async function active(run: RunContext): Promise<Published> {
  const { rounds, restart } = run.config.active as NonNullable<Config['active']>;
  const student = await openStudent(run);
  const gathered = await gather(run, student);
  const { data, lists } = gathered;
  const documents = await embedDocuments(run);
  const queries = await embedQueries(run, { data, lists, queries: derive({ lists }, (v) => v.lists.queries) });

  let last: Round | undefined;
  for (let round = 0; round < rounds && !(last && (await allAsked(run, gathered.lists, last))); round++) {
    const before: Round | undefined = last;
    const trained = before?.trained;
    const weights = trained && derive({ trained }, (v) => v.trained.weights);
    // Each round is a run in this one: its choice, its training and their state are kept under its name.
    last = await run.inside(`round-${round + 1}`, async (own) => {
      const annotated = before?.asked.annotated;
      const asked = await annotate(own, student, gathered, {
        documents,
        weights,
        annotated,
        round: { round, of: rounds },
      });
      if (!own.dry) {
        const { indices } = await asked.annotated.value();
        own.note(`round ${round + 1} of ${rounds}: the teacher has scored ${indices.length} queries`);
      }
      const set = await trainingSet(own, student, gathered, asked, queries);
      return { asked, set, trained: await trainStudent(own, set, { start: restart ? undefined : weights }) };
    });
  }
  const { asked, set, trained } = last as Round;
  const { annotated } = asked;
  return publish(
    run,
    set,
    trained,
    derive({ annotated }, (v) => v.annotated.indices.length),
  );
}

/** Whether the budget is spent; in a dry run that is not known before the choice is made. */
async function allAsked({ config }: RunContext, lists: Gathered['lists'], { asked }: Round): Promise<boolean> {
  if (!asked.annotated.known || !lists.known) return false;
  const budget = config.querySelection?.budget ?? Number.POSITIVE_INFINITY;
  return (await asked.annotated.value()).indices.length >= Math.min(budget, (await lists.value()).queries.length);
}
