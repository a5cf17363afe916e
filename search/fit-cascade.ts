/** @file Fits a cascade of student and teacher with a certified risk, and writes it as cascade.json. */
import { pValues } from '../adaptive/calibration/p-values.ts';
import { DEPTHS, type FitOptions, fitCascade } from '../adaptive/fit.ts';
import { type RuleName, rules } from '../adaptive/rules/index.ts';
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import type { Computing } from '../engine/runtime/provider.ts';
import { Random } from '../math/random.ts';
import { type CascadeFile, guaranteeSentence, writeCascade } from '../serving/cascade-file.ts';
import { deviceOf, readProvenance } from '../serving/encoder/checkpoint.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { crossEncoder } from '../teachers/cross-encoder.ts';
import { isExits } from '../teachers/exits.ts';
import { checkShares } from './job-options.ts';
import { openStudentIndex, queriesOf, scoredLists, scoresThrough, UNJUDGED } from './scored-lists.ts';

/** What a cascade is made of, and what it promises. */
export interface CascadeOptions {
  student: string;
  teacher: string;
  data: string;
  output: string;
  /** Split whose queries are calibrated on, the run's dev split by default; `unjudged`: those that no split judges, without labels. */
  calibrate?: string;
  /** Mean loss of nDCG@10 that is allowed, and with what confidence the promise holds. */
  risk?: number;
  confidence?: number;
  /** Whether the split's labels count; else consistency with the teacher's order is what is certified. */
  labels?: boolean;
  /** Documents that the student finds for a query. */
  candidates?: number;
  rule?: string;
  bound?: string;
  loss?: FitOptions['loss'];
  /** An index of the data's documents. */
  index?: string;
  dtype?: string;
  queryTokens?: number;
  documentTokens?: number;
  seed?: number;
  /** Where student and teacher compute; the CPU by default. */
  provider?: Computing['provider'];
  cache?: string;
}

/** What was fitted and certified. */
export interface CascadeReport {
  output: string;
  /** The promise. */
  guarantee: string;
  certified: boolean;
  rule: string;
  fusion: number;
  queries: { fitted: number; certified: number };
  /** On the certifying half: share of queries about which the teacher is asked, documents it scores a query, mean loss. */
  deferred: number;
  pairs: number;
  risk: number;
  /** Layers of the teacher that a pair went through; absent where it has no exits. */
  layers?: number;
  candidates: number;
}

/** Fits a cascade on a split, certifies its risk, and writes cascade.json. @throws InputError where a model, the data or an option cannot be used */
export async function cascade(options: CascadeOptions, watch: RunControl = {}): Promise<CascadeReport> {
  const { risk = 0.01, confidence = 0.9, candidates = 100, seed = 0, output } = options;
  checkOptions({ ...options, candidates });
  const made = await readProvenance(options.student);
  const calibrate = splitFor(options.calibrate, 'dev', made.data.splits, watch);
  const dataset = await openAsRun(options.data, made.data, [calibrate], watch);
  const positions = Random.of(seed, 'cascade').shuffle(queriesOf(dataset, calibrate));
  const labels = options.labels !== false && calibrate !== UNJUDGED;
  const limits = {
    queryTokens: options.queryTokens ?? made.teacher.queryTokens,
    documentTokens: options.documentTokens ?? made.teacher.documentTokens,
  };
  const teacher = await crossEncoder(options.teacher, {
    maxQuery: limits.queryTokens,
    maxDocument: limits.documentTokens,
    session: await deviceOf({ model: options.teacher }, options.provider),
  });
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  try {
    const { index, close } = await openStudentIndex(options, dataset, watch);
    try {
      const { settings } = index;
      if (!settings)
        throw new InputError({
          code: 'cascade.sparse',
          subject: `${index.folder} is an index of a sparse student, for which no cascade is certified`,
          remedy: 'leave --index out, or name an index of a dense student',
        });
      const asked = { index, scores: scoresThrough(cache, teacher), dataset, candidates };
      const lists = await scoredLists(asked, positions, labels ? calibrate : undefined, watch);
      const fitted = fitCascade(lists.queries, {
        alpha: risk,
        delta: 1 - confidence,
        depths: DEPTHS.filter((d) => d <= candidates),
        rule: (options.rule as RuleName | 'auto' | undefined) ?? 'auto',
        bound: options.bound as FitOptions['bound'],
        loss: options.loss,
        exits: isExits(teacher) ? teacher.exits : undefined,
      });
      const content: CascadeFile = {
        student: { path: options.student, key: index.key, dtype: options.dtype, settings: { ...settings } },
        teacher: { path: options.teacher, key: teacher.key, ...limits },
        data: { ...dataHashes(dataset, calibrate, positions), seed },
        candidates,
        policy: { ...fitted.policy, depths: [...fitted.policy.depths], parameters: [...fitted.policy.parameters] },
        guarantee: fitted.guarantee,
        calibration: { needs: fitted.needs, deferred: fitted.deferred },
      };
      await writeCascade(output, content);
      const { guarantee, policy } = fitted;
      return {
        output,
        guarantee: guaranteeSentence(content),
        certified: guarantee.certified,
        rule: policy.rule,
        fusion: policy.fusion,
        queries: { fitted: positions.length - guarantee.queries, certified: guarantee.queries },
        deferred: fitted.deferred,
        pairs: guarantee.pairs,
        risk: guarantee.risk,
        ...(guarantee.layers !== undefined && { layers: guarantee.layers }),
        candidates,
      };
    } finally {
      await close();
    }
  } finally {
    await cache.close();
    await teacher.dispose();
  }
}

/** What a cascade was certified on, or is measured on. */
export function dataHashes({ name, documents, queries }: Dataset, split: string, positions: readonly number[]) {
  const texts = positions.map((q) => hashParts(queries.ids[q], queries.text(q))).sort();
  return { name, documents: documents.hash, split, queries: hashParts(texts.join('\n')) };
}

function checkOptions({ rule = 'auto', bound, loss, candidates, risk, confidence }: CascadeOptions): void {
  const fail = (subject: string, expected: string): never => {
    throw new InputError({ code: 'cascade.options', subject, expected, remedy: 'choose one of these' });
  };
  const oneOf = (option: string, value: string | undefined, known: readonly string[]): void => {
    if (value !== undefined && !known.includes(value)) fail(`${option} '${value}'`, known.join(', '));
  };
  oneOf('--rule', rule, ['auto', ...Object.keys(rules)]);
  // The binomial bound is for losses of 0 and 1 alone.
  oneOf(
    '--bound',
    bound,
    Object.keys(pValues).filter((name) => name !== 'binomial'),
  );
  oneOf('--loss', loss, ['clipped', 'signed']);
  if (!(Number.isInteger(candidates) && (candidates as number) >= 10)) fail(`--candidates ${candidates}`, '10 or more');
  checkShares({ '--risk': risk, '--confidence': confidence }, fail);
}
