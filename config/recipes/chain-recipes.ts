/** @file The options of each run of a chain: recipes that hold over several sets, overridden by name. */
import type { ChainPart } from '../chain.ts';
import type { Config, ConfigInput } from '../config.ts';
import { kindNamed, startFolder } from '../student.ts';
import type { Effort } from './effort.ts';

/** Steps that an assistant takes, by how many queries teach it: no more than ten epochs, nor fewer than one unless that is too much. */
export function assistantSteps(queries: number, { batchSize, steps, most }: Effort['assistant']): number {
  const epoch = Math.max(1, Math.ceil(queries / batchSize));
  return Math.min(10 * epoch, Math.max(steps, Math.min(epoch, most)));
}

/** What of the data decides a recipe. */
export interface ChainData {
  /** Training queries. */
  queries: number;
  /** Whether any of them is judged. */
  labelled: boolean;
  /** Whether the training queries were generated from the documents. */
  generatedTrain: boolean;
  /** Whether the queries of the dev split were. */
  generatedDev: boolean;
  /** Whether the data lists negatives. */
  listed: boolean;
  /** How much work the runs take where they compute. */
  effort: Effort;
}

type Plain = Record<string, unknown>;

/** Objects joined key by key, the second first; arrays and everything else are taken whole. */
function joined(base: Plain, over: Plain): Plain {
  const plain = (v: unknown): v is Plain => typeof v === 'object' && v !== null && !Array.isArray(v);
  const out = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const own = out[key];
    // Another kind of model has options of its own.
    const other = key === 'teacher' || (key === 'student' && plain(value) && kindNamed(value) !== 'model');
    out[key] = plain(own) && plain(value) && !other ? joined(own, value) : value;
  }
  return out;
}

/**
 * The options of one run of the chain.
 *
 * The recipes are those that helped on six sets without tuning to any of them (see docs/chain.md): InfoNCE with a cross-encoder's
 * scores at a temperature of 0.05 and a low learning rate for the assistant; no dropout, spans of documents and a high learning rate
 * for what stands over frozen documents. Weights are chosen on dev in each, with those at the start among them.
 *
 * @param embedder folder of the dual-encoder whose documents are searched, where the run has one
 */
export function chainOptions(
  config: Config,
  name: ChainPart,
  { queries, labelled, generatedTrain, generatedDev, listed, effort }: ChainData,
  embedder?: string,
): ConfigInput | undefined {
  const over = config.chain?.[name];
  if (over === false) return undefined;
  const { seed, cache, memory, data, teacher, evaluate, candidates, weighting } = config;
  const { queryTokens, documentTokens, keep } = config.student;
  const limits = { queryTokens, documentTokens };
  // The towers live in the space of the assistant's documents, and match spans of the corpus in any case.
  const general =
    keep === undefined || (keep.texts === undefined && keep.kind === 'spans')
      ? {}
      : { keep: { ...keep, model: undefined } };
  const common: Plain = {
    seed,
    ...(cache && { cache }),
    ...(memory && { memory }),
    data,
    evaluate,
    candidates,
    ...hybridOf(config),
    ...(config.export && { export: config.export }),
  };
  const { provider, threads, tf32, precision } = config.train;
  const compute = {
    provider,
    ...(threads && { threads }),
    ...(tf32 && { tf32 }),
    ...(precision !== 'float32' && { precision }),
  };
  const model = startFolder(config.student) ?? embedder;
  const options = (base: Plain): ConfigInput => joined(base, (over ?? {}) as Plain) as unknown as ConfigInput;
  const hasDev = data.splits.dev !== null;
  const every = (steps: number) =>
    hasDev ? { evaluateEvery: Math.max(1, Math.ceil(steps / effort.evaluations)) } : {};
  // What a query tower over the documents of the embedder learns from, with a transformer or without one.
  const overDocuments = {
    ...common,
    embedder: { model: embedder, ...limits },
    candidates: { source: 'embedder', count: 16 },
    losses: OVER_DOCUMENTS,
    generate: { kind: 'spans', count: effort.spans },
    train: { ...compute, batchSize: 64, spans: 256, sampledDocuments: SAMPLED, learningRate: 1e-3 },
  };
  switch (name) {
    case 'assistant': {
      // A model scores some dozens of pairs a second on a CPU: no more queries are scored than training needs. Stored scores and
      // labels cost nothing.
      const asks = teacher !== undefined && teacher.kind !== 'scores';
      const { asked, batchSize, devDocuments, documentTokens } = effort.assistant;
      const most = asks ? Math.min(data.maxQueries ?? asked, asked) : data.maxQueries;
      const steps = assistantSteps(Math.min(queries, most ?? queries), effort.assistant);
      return options({
        ...common,
        pipeline: 'cross-to-dual',
        ...(teacher && { teacher }),
        student: { model, ...limits, ...(keep && { keep }) },
        ...(weighting.kind !== 'uniform' && { weighting }),
        ...(config.generate?.kind === 'chat' && { generate: config.generate }),
        // Candidates of both channels: BM25's alone are easy for an encoder that is trained already.
        candidates: candidates.source === 'auto' && !listed ? { ...candidates, source: 'hybrid' } : candidates,
        // Without judgements there is the teacher's ranking alone; its best candidate is taken as the positive.
        losses: [
          ...(labelled ? [{ kind: 'info-nce', temperature: 0.05 }] : []),
          ...(teacher ? [{ kind: 'kl', temperature: 1, studentTemperature: 0.05 }] : []),
        ],
        data: { ...data, ...(most && { maxQueries: most }) },
        train: {
          ...compute,
          steps,
          batchSize,
          ...(documentTokens && { documentTokens: Math.min(documentTokens, limits.documentTokens) }),
          candidates: 4,
          learningRate: 5e-5,
          warmupSteps: Math.ceil(steps / 10),
          // Both towers train: each evaluation embeds the documents that are searched anew.
          devDocuments,
          ...(!labelled && { pseudoLabels: true }),
          // How a teacher ranks generated queries is no evidence against it.
          ...(labelled && !generatedDev && { onWeakTeacher: 'labels' }),
          ...(generatedTrain ? { average: GENERATED_SHARE } : hasDev && { average: SHARES }),
          ...every(steps),
        },
      });
    }
    case 'query': {
      const steps = effort.querySteps;
      return options({
        ...overDocuments,
        pipeline: 'inherit-documents',
        student: { model: embedder, layers: SMALL_TOWER, ...limits, ...general },
        train: { ...overDocuments.train, ...every(steps), steps, warmupSteps: Math.ceil(steps / 10) },
      });
    }
    case 'static': {
      const steps = effort.staticSteps;
      return options({
        ...overDocuments,
        pipeline: 'static-queries',
        student: { static: {}, ...limits, ...general },
        train: { ...overDocuments.train, ...every(steps), steps, warmupSteps: Math.ceil(steps / 25) },
      });
    }
  }
}

/** Each student is measured with BM25 too. Its weight is fitted on dev: without dev it is left out, unless the config gives the weight. */
const hybridOf = ({ hybrid, data }: Config): Plain =>
  hybrid ? { hybrid } : data.splits.dev === null ? {} : { hybrid: {} };

/** Layers of the small tower: of six the first and the last carry most (reference: 0.8424 with them, 0.8431 with three). */
const SMALL_TOWER = [0, -1];

/** Shares of the trained weights in a mean with the encoder's own, among which dev chooses. */
const SHARES = [0.85, 0.7, 0.5];

/**
 * Share of the trained weights where queries were generated from the documents. They repeat the documents' words, and a dev split of
 * the same kind does not see what that costs: the mean of both encoders is better for queries of people.
 */
const GENERATED_SHARE = 0.5;

/** Documents in each step of a tower, in addition to the candidates. */
const SAMPLED = 4096;

/**
 * Distance to the embedder's vectors, and three times the divergence of its distribution over documents of the corpus. 1 / T^2, 400,
 * cancels the loss's own factor.
 */
const OVER_DOCUMENTS = [
  { kind: 'embedding-matching', weight: 1, of: 'queries' },
  { kind: 'in-batch-kl', temperature: 0.05, studentTemperature: 0.05, weight: 1200 },
];
