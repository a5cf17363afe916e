/** @file A cross-encoder for programs: one query, some documents, a logit each. */
import { FaultError, InputError, shown } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { firstNotFinite } from '../math/finite.ts';
import { isLateFolder } from '../students/late/late-folder.ts';
import { type CrossEncoderOptions, crossEncoder } from '../teachers/cross-encoder.ts';
import { type EarlyScores, type ExitsTeacher, isExits, openExits } from '../teachers/exits.ts';
import { exitsSentence, hasExits } from '../teachers/exits-file.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { openLateReranker } from './multi-vector/late-reranker.ts';

/** Where texts are cut, and which label is read. */
export interface OpenRerankerOptions {
  /** Tokens of a query and of a document alone; as the model's folder says by default. */
  queryTokens?: number;
  documentTokens?: number;
  /** Which label of a model with several says relevance. */
  label?: CrossEncoderOptions['label'];
  /**
   * Of a folder with exits: how surely a document's place must be settled before it stops, in standard deviations of an exit's
   * score; 'all' runs all layers. As the folder's calibration says by default.
   */
  exits?: number | 'all';
}

/** An open cross-encoder. Dispose of it when it is not needed any more. */
export interface Reranker {
  readonly name: string;
  /** Of the model's bytes, its tokenizer and limits: equal keys give equal scores. */
  readonly key: string;
  /** Notes on assumptions made when the folder was read. */
  readonly notes: readonly string[];
  /**
   * Logits of the documents for a query, in their order; higher is better. Pairs are sorted by length and run in batches.
   * @returns [documents.length]
   * @throws FaultError where a logit is not finite
   */
  score(query: string, documents: readonly string[], watch?: RunControl): Promise<Float32Array>;
  /** Of a folder with exits: layers are left out for documents whose place is settled. */
  readonly exits?: {
    /** Layers run by each exit; the last is the whole model. */
    readonly layers: readonly number[];
    /** What leaving early may cost, in a sentence. */
    readonly guarantee: string;
    /**
     * As `score`, with the layers that were run.
     * @param options.before scores of the same query's documents that are known already
     */
    score(
      query: string,
      documents: readonly string[],
      options?: { threshold?: number; before?: ArrayLike<number> },
      watch?: RunControl,
    ): Promise<EarlyScores>;
  };
  /** Frees the session. */
  dispose(): Promise<void>;
}

/**
 * Opens a cross-encoder's folder; scores are those of `distill score` and `distill evaluate`. In a folder that `distill exits`
 * made, documents whose place among the others is settled stop early.
 * @throws InputError where files are missing or no output is a score
 */
export async function openReranker(folder: string, options: OpenRerankerOptions = {}): Promise<Reranker> {
  const { queryTokens: maxQuery, documentTokens: maxDocument, label, exits } = options;
  if (isLateFolder(folder)) {
    const given = Object.entries(options).find(([, value]) => value !== undefined)?.[0];
    if (given)
      throw new InputError({
        code: 'reranker.late',
        subject: `'${given}' is given, and ${folder} holds a re-ranker of late interaction`,
        remedy: 'leave it out: limits stand in its multi-vector.json',
      });
    return openLateReranker(folder);
  }
  if (hasExits(folder)) return earlyReranker(await openExits(folder, { maxQuery, maxDocument, label }), exits);
  if (exits !== undefined)
    throw new InputError({
      code: 'reranker.exits',
      subject: `'exits' is given, and ${folder} has none`,
      remedy: 'make a folder with exits of it: distill exits',
    });
  return plain(await crossEncoder(folder, { maxQuery, maxDocument, label }));
}

/** @throws InputError where the threshold is not one */
function earlyReranker(teacher: ExitsTeacher, exits?: OpenRerankerOptions['exits']): Reranker {
  if (exits !== undefined && exits !== 'all' && !(exits >= 0))
    throw new InputError({
      code: 'reranker.exits',
      subject: `'exits' is ${exits}`,
      expected: "a number of 0 or more, or 'all'",
      remedy: 'leave it out for what was certified',
    });
  const chosen = exits === 'all' ? Number.POSITIVE_INFINITY : (exits ?? teacher.exits.threshold);
  const whole = plain(teacher);
  const early: NonNullable<Reranker['exits']>['score'] = (query, documents, options, watch) =>
    teacher.scoreEarly(query, documents, { threshold: chosen, ...options }, watch);
  return {
    ...whole,
    exits: { layers: teacher.exits.layers, guarantee: exitsSentence(teacher.exits), score: early },
    score: async (query, documents, watch) =>
      finite(teacher.name, query, documents, (await early(query, documents, {}, watch)).scores),
  };
}

/** A teacher as re-ranker; one with exits leaves its layers early. */
export const rerankerOf = (teacher: Teacher): Reranker => (isExits(teacher) ? earlyReranker(teacher) : plain(teacher));

function plain(teacher: Teacher): Reranker {
  return {
    name: teacher.name,
    key: teacher.key,
    notes: teacher.facts?.notes ?? [],
    async score(query, documents, watch) {
      const pairs = documents.map((document) => ({ queryId: '', documentId: '', query, document }));
      return finite(teacher.name, query, documents, await teacher.score(pairs, watch));
    },
    dispose: () => teacher.dispose(),
  };
}

/** @throws FaultError where a logit is not finite */
function finite(name: string, query: string, documents: readonly string[], logits: Float32Array): Float32Array {
  const bad = firstNotFinite(logits);
  if (bad < 0) return logits;
  throw notFiniteLogit(name, logits[bad], query, `'${shown(documents[bad].slice(0, 60))}'`);
}

/** @param document how it is named */
export const notFiniteLogit = (name: string, logit: number, query: string, document: string): FaultError =>
  new FaultError({
    code: 'reranker.not-finite',
    subject: `${name} gives ${logit} for the query '${shown(query.slice(0, 60))}' with the document ${document}`,
    remedy: 'it cannot be ranked; use another model, or leave such texts out',
  });
