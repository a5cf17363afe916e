/** @file The options of each run of a chain: recipes that hold over several sets, overridden by name. */
import type { ChainPart } from '../chain.ts';
import type { Config, ConfigInput } from '../config.ts';
import { kindNamed, startFolder } from '../student.ts';

/** Steps that an assistant takes, by how many queries teach it: some 800, and no more than ten epochs nor fewer than one. */
export function assistantSteps(queries: number, batchSize: number): number {
  const epoch = Math.max(1, Math.ceil(queries / batchSize));
  return Math.min(10 * epoch, Math.max(800, Math.min(epoch, 3 * 800)));
}

/** Evaluations on dev during a training, in addition to those before it and after it. */
const EVALUATIONS = 8;

/** What of the data decides a recipe. */
export interface ChainData {
  /** Training queries. */
  queries: number;
  /** Whether any of them is judged. */
  labelled: boolean;
  /** Whether the data lists negatives. */
  listed: boolean;
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
  { queries, labelled, listed }: ChainData,
  embedder?: string,
): ConfigInput | undefined {
  const over = config.chain?.[name];
  if (over === false) return undefined;
  const { seed, cache, memory, data, teacher, evaluate, candidates, weighting } = config;
  const { queryTokens, documentTokens } = config.student;
  const limits = { queryTokens, documentTokens };
  const common: Plain = {
    seed,
    ...(cache && { cache }),
    ...(memory && { memory }),
    data,
    evaluate,
    candidates,
    hybrid: config.hybrid ?? {},
    ...(config.export && { export: config.export }),
  };
  const compute = { provider: config.train.provider, ...(config.train.threads && { threads: config.train.threads }) };
  const model = startFolder(config.student) ?? embedder;
  const options = (base: Plain): ConfigInput => joined(base, (over ?? {}) as Plain) as unknown as ConfigInput;
  const hasDev = data.splits.dev !== null;
  const every = (steps: number) => (hasDev ? { evaluateEvery: Math.max(1, Math.ceil(steps / EVALUATIONS)) } : {});
  switch (name) {
    case 'assistant': {
      const steps = assistantSteps(Math.min(queries, MOST_ASKED), 32);
      return options({
        ...common,
        pipeline: 'cross-to-dual',
        ...(teacher && { teacher }),
        student: { model, ...limits },
        ...(weighting.kind !== 'uniform' && { weighting }),
        ...(config.generate?.kind === 'chat' && { generate: config.generate }),
        // Candidates of both channels: BM25's alone are easy for an encoder that is trained already.
        candidates: candidates.source === 'auto' && !listed ? { ...candidates, source: 'hybrid' } : candidates,
        // Without judgements there is the teacher's ranking alone; its best candidate is taken as the positive.
        losses: [
          ...(labelled ? [{ kind: 'info-nce', temperature: 0.05 }] : []),
          ...(teacher ? [{ kind: 'kl', temperature: 1, studentTemperature: 0.05 }] : []),
        ],
        // A model scores some dozens of pairs a second on a CPU: no more queries are scored than training uses.
        data: { ...data, maxQueries: Math.min(data.maxQueries ?? MOST_ASKED, MOST_ASKED) },
        train: {
          ...compute,
          steps,
          batchSize: 32,
          candidates: 4,
          learningRate: 5e-5,
          warmupSteps: Math.ceil(steps / 10),
          // Both towers train: each evaluation embeds the documents that are searched anew.
          devDocuments: DEV_DOCUMENTS,
          ...(!labelled && { pseudoLabels: true }),
          ...every(steps),
        },
      });
    }
    case 'query': {
      const steps = 600;
      return options({
        ...common,
        pipeline: 'inherit-documents',
        embedder: { model: embedder, ...limits },
        student: { model: embedder, layers: SMALL_TOWER, ...limits },
        candidates: { source: 'embedder', count: 16 },
        losses: [{ kind: 'embedding-matching', weight: 1, of: 'queries' }],
        generate: { kind: 'spans', count: 100_000 },
        train: { ...compute, steps, batchSize: 64, spans: 256, learningRate: 5e-4, warmupSteps: 60, ...every(steps) },
      });
    }
    case 'static': {
      const steps = 2500;
      return options({
        ...common,
        pipeline: 'static-queries',
        embedder: { model: embedder, ...limits },
        student: { static: {}, ...limits },
        losses: [{ kind: 'embedding-matching', weight: 1, of: 'queries' }],
        generate: { kind: 'spans', count: 100_000 },
        train: { ...compute, steps, batchSize: 64, spans: 256, learningRate: 3e-3, warmupSteps: 100, ...every(steps) },
      });
    }
  }
}

/** Documents that dev queries are searched among while the assistant trains, in addition to the relevant ones. */
const DEV_DOCUMENTS = 3000;

/** Queries that teach the assistant at most. */
const MOST_ASKED = 8000;

/** Layers of the small tower: the first and the last of six carry most (reference: 0.8424 with them, 0.8431 with three). */
const SMALL_TOWER = [0, 5];
