/** @file Serves a cascade: the student retrieves, and the teacher re-ranks as deep as the certified policy decides. */
import { type Policy, serve } from '../adaptive/policy.ts';
import { InputError } from '../common/errors.ts';
import { canonicalJson } from '../common/files.ts';
import { type CascadeFile, guaranteeSentence, readCascade } from './cascade-file.ts';
import type { DocumentIndex, SearchDocument } from './document-index.ts';
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
  /** Whether the query was deferred to the teacher. */
  deferred: boolean;
}

/** Options of an open cascade. */
export interface OpenCascadeOptions {
  /** The index that is searched: its folder, or opened. An opened one is not closed with the cascade. */
  index: string | DocumentIndex;
  /** Folder of the teacher, where it was moved; or opened: then it is not disposed of. */
  teacher?: string | Reranker;
  /** Notes and warnings: once what fits less than exactly, and once when the stream of queries has changed. */
  onNote?: (note: string) => void;
  /** Chance of a false alarm about the stream, over its whole life. */
  driftLevel?: number;
}

/** An open cascade. Close it when it is not needed any more. */
export interface Cascade {
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
    return cascadeOver(file, cascade, index, reranker, { ...options, close });
  } catch (error) {
    await close();
    throw error;
  }
}

function cascadeOver(
  file: string,
  cascade: CascadeFile,
  index: DocumentIndex,
  reranker: Reranker,
  { onNote, driftLevel, close }: OpenCascadeOptions & { close(): Promise<void> },
): Cascade {
  checkFit(file, cascade, index, reranker);
  const notes: string[] = [];
  if (canonicalJson(index.settings) !== canonicalJson(cascade.student.settings))
    notes.push(
      `the guarantee was certified on vectors stored as ${cascade.student.settings.codec} (${canonicalJson(cascade.student.settings)}), and this index has ${canonicalJson(index.settings)}: scores differ by rounding`,
    );
  if (!cascade.guarantee.certified) notes.push(guaranteeSentence(cascade));
  for (const note of notes) onNote?.(note);
  const watch = new DriftWatch(cascade.calibration.needs, cascade.policy.threshold, driftLevel, onNote);
  return {
    guarantee: guaranteeSentence(cascade),
    notes,
    reranker,
    async search(text, k = 10) {
      const found = await index.search(text, Math.max(k, cascade.candidates));
      const head = found.slice(0, cascade.candidates);
      const answer = await serveHits(cascade.policy, head, (some) => reranker.score(text, some));
      if (head.length) watch.see(answer.need);
      const rest = found.slice(cascade.candidates).map(({ score, ...d }) => ({ ...d, student: score }));
      return {
        documents: [...answer.documents, ...rest].slice(0, k),
        pairs: answer.pairs,
        deferred: answer.pairs > 0,
      };
    },
    drift: () => watch.report(),
    close,
  };
}

/** Serves what the student found for a query. @param score the teacher's logits of some documents' texts */
async function serveHits(
  policy: Policy,
  found: readonly (SearchDocument & { score: number })[],
  score: (texts: readonly string[]) => Promise<Float32Array>,
): Promise<CascadeAnswer & { need: number }> {
  const logits: number[] = [];
  const student = Float32Array.from(found, (d) => d.score);
  const { order, scored, need } = await serve(student, policy, async (from, to) => {
    const own = await score(found.slice(from, to).map((d) => d.text));
    for (const logit of own) logits.push(logit);
    return own;
  });
  const documents = Array.from(order, (i): CascadeHit => {
    const { score: own, ...document } = found[i];
    return { ...document, student: own, ...(i < scored && { teacher: logits[i] }) };
  });
  return { documents, pairs: scored, deferred: scored > 0, need };
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
