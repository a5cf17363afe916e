/** @file What stages leave in the output folder for the next run: read where nothing that it depends on has changed. */
import type { CandidateLists } from '../../data/lists.ts';
import { type TypedArray, vectorOf } from '../../engine/graph/tensor.ts';
import type { Selected } from '../../selection/index.ts';
import type { Weighted } from '../../weighting/index.ts';
import type { Ledger } from '../run/artifact-store.ts';
import type { Job } from '../run/context.ts';
import type { StageName } from '../run/stage-keys.ts';

type Numbers = Float32Array | Float64Array | Int32Array;
type Arrays = Readonly<Record<string, Numbers>>;

/** Arrays of a stage, made where they are not there as they would be made now. */
async function keptArrays(job: Job, stage: StageName, make: () => Promise<Arrays>): Promise<Map<string, TypedArray>> {
  const key = job.keys[stage];
  const why = await job.ledger.why(stage, key);
  job.did(stage, why !== undefined);
  if (why === undefined) return arraysOf(job.ledger, stage);
  const made = Object.entries(await make());
  await job.ledger.recordArrays(stage, key, new Map(made.map(([name, data]) => [name, vectorOf(data)])));
  return new Map(made);
}

const arraysOf = async (ledger: Ledger, stage: StageName): Promise<Map<string, TypedArray>> =>
  new Map([...(await ledger.arrays(stage))].map(([name, { data }]) => [name, data]));

export async function keptLists(job: Job, make: () => Promise<CandidateLists>): Promise<CandidateLists> {
  return asLists(await keptArrays(job, 'candidates', async () => ({ ...(await make()) })));
}

/** Candidates as an earlier run left them. */
export const readLists = async (ledger: Ledger): Promise<CandidateLists> =>
  asLists(await arraysOf(ledger, 'candidates'));

const asLists = (arrays: ReadonlyMap<string, TypedArray>): CandidateLists => ({
  queries: arrays.get('queries') as Int32Array,
  offsets: arrays.get('offsets') as Int32Array,
  documents: arrays.get('documents') as Int32Array,
  scores: arrays.get('scores') as Float32Array,
});

export async function keptChoice(job: Job, make: () => Promise<Selected>): Promise<Selected> {
  return asChoice(
    await keptArrays(job, 'queries', async () => {
      const { indices, weights } = await make();
      return { indices: Int32Array.from(indices), ...(weights && { weights }) };
    }),
  );
}

/** The queries chosen by an earlier run. */
export const readChoice = async (ledger: Ledger): Promise<Selected> => asChoice(await arraysOf(ledger, 'queries'));

const asChoice = (arrays: ReadonlyMap<string, TypedArray>): Selected => ({
  indices: arrays.get('indices') as Int32Array,
  weights: arrays.get('weights') as Float32Array | undefined,
});

export async function keptWeights(job: Job, make: () => Promise<Weighted>): Promise<Weighted> {
  const arrays = await keptArrays(job, 'weights', async () => {
    const { weights, targets, right } = await make();
    return { weights, ...(targets && { targets }), ...(right && { right }) };
  });
  return {
    weights: arrays.get('weights') as Float32Array,
    targets: arrays.get('targets') as Float32Array | undefined,
    right: arrays.get('right') as Float64Array | undefined,
  };
}
