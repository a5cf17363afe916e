/** @file What a run would do, and why, without doing it: `distill run --dry-run`. */
import type { Watch } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { textsAt } from '../data/dataset.ts';
import type { CandidateLists } from '../data/lists.ts';
import { listsAt } from '../data/lists.ts';
import { openDataset } from '../data/open.ts';
import { ScoreCache } from '../teachers/cache/score-cache.ts';
import { differing, peekState } from '../training/training-state.ts';
import type { Config, ConfigInput } from './config/config.ts';
import { parseConfig } from './config/parse.ts';
import { weighsOnce } from './fit/reweight.ts';
import { trainingFolder, trainingStage } from './fit/trained-weights.ts';
import { MADE_ON_THE_WAY } from './fit/training-key.ts';
import { findCandidates, pairsOf } from './prepare/candidates.ts';
import { readChoice, readLists } from './prepare/kept-arrays.ts';
import { Ledger } from './run/artifact-store.ts';
import { defaultCache, teacherKeys } from './run/open-teachers.ts';
import { refuseOther } from './run/output-folder.ts';
import { embedsWhat, type StageKeys, type StageName, stageKeys, stagesOf } from './run/stage-keys.ts';
import { trainingQueries } from './run/training-queries.ts';

/** What becomes of a stage. */
export interface StagePlan {
  stage: StageName;
  /** `depends`: on what an earlier stage of the run will find. */
  status: 'made' | 'reused' | 'depends';
  why: string;
  /** Scores or embeddings that the cache lacks. */
  missing?: Missing;
}
interface Missing {
  count: number;
  of: number;
  unit: string;
}
type Verdict = Omit<StagePlan, 'stage'>;

/** What a plan is made from. */
interface Known {
  config: Config;
  dataset: Dataset;
  teachers: { teacher?: string; embedder?: string };
  keys: StageKeys;
  ledger: Ledger;
  cache: ScoreCache | undefined;
  watch: Watch;
}

/** Reads data, models' keys and the output folder, and writes nothing. @throws InputError as a run */
export async function planRun(options: ConfigInput, watch: Watch = {}): Promise<StagePlan[]> {
  const config = parseConfig(options);
  refuseOther(config.output);
  const dataset = await openDataset(config.data.path as string, config.data);
  const teachers = await teacherKeys(config, dataset);
  const keys = await stageKeys(config, dataset, teachers);
  const ledger = await Ledger.open(config.output);
  const cache = await ScoreCache.openIfThere(config.cache ?? defaultCache());
  try {
    return await planned({ config, dataset, teachers, keys, ledger, cache, watch });
  } finally {
    await cache?.close();
  }
}

async function planned(known: Known): Promise<StagePlan[]> {
  const { config, keys, ledger } = known;
  const recorded = async (stage: StageName, unchanged: string): Promise<Verdict> =>
    verdict(await ledger.why(stage, keys[stage]), unchanged);
  const candidates = await recorded('candidates', 'nothing they depend on has changed');
  const queries = await recorded('queries', 'the choice of the earlier run stands');
  const training = await planTraining(known);
  const lists = await listsToScore(known, candidates, queries);
  const verdicts: Record<StageName, () => Verdict | Promise<Verdict>> = {
    data: () => recorded('data', 'as in the earlier run'),
    candidates: () => candidates,
    queries: () => queries,
    'teacher scores': () => planScores(known, lists),
    embeddings: () => planEmbeddings(known, lists),
    // What training reads of the weights is in its state.
    weights: () =>
      training.goesOn
        ? { status: 'reused', why: 'training has them' }
        : weighsOnce(config)
          ? recorded('weights', 'nothing they depend on has changed')
          : { status: 'made', why: 'they follow the student while it trains' },
    training: () => training.verdict,
    checkpoint: () => recorded('checkpoint', 'whole, and of this training'),
    evaluation: () => recorded('evaluation', 'the figures of the earlier run stand'),
    export: () => recorded('export', 'whole, and of this checkpoint'),
  };
  const stages: StagePlan[] = [];
  for (const stage of stagesOf(config)) stages.push({ stage, ...(await verdicts[stage]()) });
  return stages;
}

const verdict = (why: string | undefined, unchanged: string): Verdict =>
  why === undefined ? { status: 'reused', why: unchanged } : { status: 'made', why };

/** Training is used, gone on with, or done again. */
async function planTraining({ config, keys, ledger }: Known): Promise<{ verdict: Verdict; goesOn: boolean }> {
  const rounds = config.active ? Array.from({ length: config.active.rounds }, (_, i) => `round-${i + 1}`) : [''];
  const reasons: (string | undefined)[] = [];
  for (const name of rounds) {
    const why = await ledger.why(trainingStage(name), keys.training, MADE_ON_THE_WAY);
    const state = why === undefined ? undefined : await peekState(trainingFolder(config.output, name));
    const same = state && !differing(state.key, keys.training).some((part) => !isMadeOnTheWay(part));
    if (same) return { verdict: { status: 'made', why: `it goes on from step ${state.step}` }, goesOn: true };
    reasons.push(why);
  }
  const why = reasons.find((r) => r !== undefined);
  return { verdict: verdict(why, 'finished in an earlier run'), goesOn: why === undefined };
}

const isMadeOnTheWay = (part: string): boolean => (MADE_ON_THE_WAY as readonly string[]).includes(part);

/** The pairs that the teacher is asked about, where they can be known without asking a model. */
async function listsToScore(
  { config, dataset, ledger, watch }: Known,
  candidates: Verdict,
  queries: Verdict,
): Promise<CandidateLists | undefined> {
  const { source } = config.candidates;
  // Texts made of documents stand behind the data's own queries; a model's neighbours have to be searched by it.
  if (config.generate?.score || config.active) return undefined;
  const found = ['bm25', 'random', 'given'].includes(source);
  if (!stagesOf(config).has('candidates') || (candidates.status !== 'reused' && !found)) return undefined;
  const lists =
    candidates.status === 'reused'
      ? await readLists(ledger)
      : await findCandidates(
          config,
          dataset,
          config.data.splits.train,
          trainingQueries(config, dataset),
          undefined,
          watch,
        );
  if (!config.querySelection) return lists;
  return queries.status === 'reused' ? listsAt(lists, (await readChoice(ledger)).indices) : undefined;
}

function planScores({ config, dataset, teachers, cache }: Known, lists: CandidateLists | undefined): Verdict {
  if (config.teacher?.kind === 'scores') return { status: 'reused', why: 'they are given' };
  if (!lists) return UNKNOWN;
  if (!lists.scores.some(Number.isNaN)) return { status: 'reused', why: 'they come with the candidates' };
  const pairs = pairsOf(lists, dataset);
  return fromCache(cache ? cache.missingScores(teachers.teacher ?? '', pairs) : pairs.length, pairs.length, 'pairs');
}

function planEmbeddings({ config, dataset, teachers, cache }: Known, lists: CandidateLists | undefined): Verdict {
  const { documents, queries } = embedsWhat(config);
  if (queries && !lists) return UNKNOWN;
  const asked = lists ? [...lists.queries].filter((_, i) => lists.offsets[i + 1] > lists.offsets[i]) : [];
  const texts = [
    ...(documents ? [{ kind: 'document' as const, texts: dataset.documents }] : []),
    ...(queries ? [{ kind: 'query' as const, texts: textsAt(dataset, asked) }] : []),
  ];
  let [missing, total] = [0, 0];
  for (const { kind, texts: some } of texts) {
    total += some.length;
    missing += cache ? cache.missingEmbeddings(teachers.embedder ?? '', kind, some) : some.length;
  }
  return fromCache(missing, total, 'texts');
}

const UNKNOWN: Verdict = {
  status: 'depends',
  why: 'on what the stages before find; what the cache has is not asked for again',
};

const fromCache = (count: number, of: number, unit: string): Verdict => {
  const number = (n: number): string => n.toLocaleString('en');
  return count
    ? { status: 'made', why: `${number(count)} of ${number(of)} ${unit} missing`, missing: { count, of, unit } }
    : { status: 'reused', why: `all ${number(of)} ${unit} are in the cache`, missing: { count, of, unit } };
};
