/** @file Serves a cascade: the student retrieves, and the teacher re-ranks as deep as the certified policy decides. */
import { type Policy, serve } from '../adaptive/policy.ts';
import { InputError } from '../common/errors.ts';
import { canonicalJson, hashParts } from '../common/files.ts';
import { type FromCache, inFolder, openCachedSearch } from './cached-search.ts';
import { type CascadeFile, guaranteeSentence, readCascade } from './cascade-file.ts';
import type { DocumentIndex, SearchDocument } from './documents/document-index.ts';
import { type DriftReport, DriftWatch } from './drift-watch.ts';
import { openIndex } from './open-index.ts';
import { openReranker, type Reranker } from './reranker.ts';

/** A served document with both scores; `teacher` is absent where the teacher was not asked about it. */
export interface CascadeHit extends SearchDocument {
  readonly student: number;
  readonly teacher?: number;
}

/** A cascade's result for a query. */
export interface CascadeAnswer {
  /** Best first. Documents that the teacher scored come before the others, which keep the student's order. */
  documents: CascadeHit[];
  /** Documents that the teacher scored. */
  pairs: number;
  /** Layers that these documents went through in all; absent where the teacher has no exits. */
  layers?: number;
  /** Whether the query was deferred to the teacher. */
  deferred: boolean;
  /** The earlier query whose answer this is; absent where it is the query's own. */
  cached?: FromCache;
}

/** Options of an open cascade. */
export interface OpenCascadeOptions {
  /** The index that is searched: its folder, or opened. An opened one is not closed with the cascade. */
  index: string | DocumentIndex;
  /** Folder of the teacher, where it was moved; or opened: then it is not disposed of. */
  teacher?: string | Reranker;
  /** Notes and warnings: once what fits less than exactly, and once when the stream of queries has changed. */
  onNote?: (note: string) => void;
  /** semantic-cache.json, made for this cascade: a query near enough to an earlier one takes its answer. */
  semanticCache?: string;
  /** Chance of a false alarm about the stream, over its whole life. */
  driftLevel?: number;
}

/** An open cascade. Close it when it is not needed any more. */
export interface Cascade {
  /** Of index, teacher and policy: equal keys serve the same. */
  readonly key: string;
  /** The promise, in a sentence. */
  readonly guarantee: string;
  /** Notes on differences from the certified setup. */
  readonly notes: readonly string[];
  /** The teacher. */
  readonly reranker: Reranker;
  /**
   * Searches, and defers to the teacher where the policy decides so. @param text the query @param k documents served
   * @param k documents; those beyond the cascade's candidates are in the student's order
   */
  search(text: string, k?: number): Promise<CascadeAnswer>;
  /** How the queries served so far compare with those of calibration. */
  drift(): DriftReport;
  /** Frees the models and closes the index. */
  close(): Promise<void>;
}

/**
 * Opens cascade.json over an index.
 * @throws InputError where the file is not understood, or index or teacher are others than it was certified for
 */
export async function openCascade(file: string, options: OpenCascadeOptions): Promise<Cascade> {
  const cascade = await readCascade(file);
  const index = typeof options.index === 'string' ? await openIndex(options.index) : options.index;
  const given = options.teacher;
  let reranker: Reranker | undefined = typeof given === 'object' ? given : undefined;
  const close = async (): Promise<void> => {
    if (index !== options.index) await index.close();
    if (reranker !== given) await reranker?.dispose();
  };
  try {
    const { queryTokens, documentTokens, path } = cascade.teacher;
    reranker ??= await openReranker((given as string | undefined) ?? path, { queryTokens, documentTokens });
    return await cascadeOver(file, cascade, index, reranker, { ...options, close });
  } catch (error) {
    await close();
    throw error;
  }
}

async function cascadeOver(
  file: string,
  cascade: CascadeFile,
  index: DocumentIndex,
  reranker: Reranker,
  { onNote, driftLevel, semanticCache, close }: OpenCascadeOptions & { close(): Promise<void> },
): Promise<Cascade> {
  checkFit(file, cascade, index, reranker);
  const notes: string[] = [];
  if (canonicalJson(index.settings) !== canonicalJson(cascade.student.settings))
    notes.push(
      `the guarantee was certified on vectors stored as ${cascade.student.settings.codec} (${canonicalJson(cascade.student.settings)}), and this index has ${canonicalJson(index.settings)}: scores differ by rounding`,
    );
  if (!cascade.guarantee.certified) notes.push(guaranteeSentence(cascade));
  for (const note of notes) onNote?.(note);
  // A teacher with exits has a threshold of its own: here that of the policy counts.
  const { exits } = reranker;
  const threshold = cascade.policy.exits ?? Number.POSITIVE_INFINITY;
  const scorer =
    (text: string): ScoreChunk =>
    async (some, before) =>
      exits ? exits.score(text, some, { threshold, before }) : { scores: await reranker.score(text, some) };
  const watch = new DriftWatch(cascade.calibration.needs, cascade.policy.threshold, driftLevel, onNote);
  const key = hashParts('cascade', index.key, reranker.key, canonicalJson(cascade.policy));
  const earlier = semanticCache === undefined ? undefined : await openCachedSearch<Fresh>(semanticCache, index, key);

  async function fresh(text: string, k: number, vector?: Float32Array): Promise<Fresh> {
    const depth = Math.max(k, cascade.candidates);
    const found = vector ? inFolder(index).searchVector(vector, text, depth) : await index.search(text, depth);
    const head = found.slice(0, cascade.candidates);
    const { documents, need, ...asked } = await serveHits(cascade.policy, head, scorer(text));
    const rest = found.slice(cascade.candidates).map(({ score, ...d }) => ({ ...d, student: score }));
    return { documents: [...documents, ...rest], ...asked, need: head.length ? need : undefined };
  }

  return {
    key,
    guarantee: guaranteeSentence(cascade),
    notes,
    reranker,
    async search(text, k = 10) {
      const found = earlier
        ? await earlier.search(text, k, (vector) => fresh(text, k, vector))
        : { answer: await fresh(text, k) };
      const { documents, pairs, layers, need } = found.answer;
      // A stream is compared by all its queries: those that take an earlier answer have that query's need.
      if (need !== undefined) watch.see(need);
      const asked = found.from ? { pairs: 0, layers: 0 } : { pairs, layers };
      return {
        documents: documents.slice(0, k),
        pairs: asked.pairs,
        ...(exits && { layers: asked.layers }),
        deferred: asked.pairs > 0,
        ...(found.from && { cached: found.from }),
      };
    },
    drift: () => watch.report(),
    close,
  };
}

/** What was served, with the rule's need before the teacher was asked. */
type Fresh = Omit<CascadeAnswer, 'deferred' | 'cached'> & { need?: number };

/** The teacher's logits of some documents' texts. @param before logits of the documents that it has scored already */
type ScoreChunk = (
  texts: readonly string[],
  before: readonly number[],
) => Promise<{ scores: Float32Array; layers?: number }>;

/** Serves what the student found for a query. */
async function serveHits(
  policy: Policy,
  found: readonly (SearchDocument & { score: number })[],
  score: ScoreChunk,
): Promise<Fresh & { need: number }> {
  const logits: number[] = [];
  let run = 0;
  const student = Float32Array.from(found, (d) => d.score);
  const { order, scored, need } = await serve(student, policy, async (from, to) => {
    const { scores, layers = 0 } = await score(
      found.slice(from, to).map((d) => d.text),
      logits,
    );
    for (const logit of scores) logits.push(logit);
    run += layers;
    return scores;
  });
  const documents = Array.from(order, (i): CascadeHit => {
    const { score: own, ...document } = found[i];
    return { ...document, student: own, ...(i < scored && { teacher: logits[i] }) };
  });
  return { documents, pairs: scored, layers: run, need };
}

/** @throws InputError where a hash differs from that of what was certified */
function checkFit(file: string, cascade: CascadeFile, index: DocumentIndex, reranker: Reranker): void {
  const fail = (what: string): never => {
    throw new InputError({
      code: 'cascade.other',
      subject: `${what} is not the one that ${file} was certified for (its hash differs)`,
      remedy: 'name the right one, or calibrate again with distill cascade',
    });
  };
  if (index.key !== cascade.student.key) fail(`the student of the index ${index.folder}`);
  if (reranker.key !== cascade.teacher.key) fail(`the teacher ${reranker.name}`);
}
