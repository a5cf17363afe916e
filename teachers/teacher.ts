/** @file The interface of teachers: score pairs of texts, and optionally embed texts. */
import { FaultError, InputError, shown } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';

/** Types that the arithmetic of a model that teaches can have. */
export const teacherDTypes = ['fp32', 'int8', 'fp16'] as const;
export type TeacherDType = (typeof teacherDTypes)[number];

/** A query and a document. */
export interface Pair {
  queryId: string;
  documentId: string;
  query: string;
  document: string;
}

/** Properties read from a model, one per line; `distill check` prints them. */
export interface TeacherFacts {
  file: string;
  inputs: readonly string[];
  score: string;
  limit: string;
  /** Assumptions that change results; reported when the teacher first scores. */
  notes: readonly string[];
}

/** Vectors of texts, row-major [n, dimensions]. */
export interface Embeddings {
  dimensions: number;
  /** [n, dimensions] row-major. */
  data: Float32Array;
}

/** Scores pairs of texts, and optionally embeds texts. */
export interface Teacher {
  readonly name: string;
  readonly kind: string;
  /** Of the model's bytes, its tokenizer and how texts are cut: equal keys give equal scores. */
  readonly key: string;
  /** Properties read from its files, for a model that was opened here. */
  readonly facts?: TeacherFacts;
  /** Hash of its tokenizer, where it has one. */
  readonly tokenizer?: string;
  /** Notes on assumptions made and parts ignored when its model was read. */
  readonly notes?: readonly string[];
  /** The model that a service names in its answers, once one has come; the same key must not be answered by two. */
  served?(): string | undefined;
  /** Raw scores (logits, dot products), one a pair. */
  score(pairs: readonly Pair[], watch?: RunControl): Promise<Float32Array>;
  /** Embeddings of texts, [n, dimensions]; absent where it is not a dual-encoder. @throws FaultError where the model fails */
  embed?(texts: readonly string[] | Texts, kind: 'query' | 'document', watch?: RunControl): Promise<Embeddings>;
  /** Of token ids without special tokens, which are put around them as around a query. */
  embedTokens?(sequences: readonly (readonly number[])[], watch?: RunControl): Promise<Embeddings>;
  /** Frees what it holds open. */
  dispose(): Promise<void>;
}

/** A teacher failed part way: its results so far can be kept. */
export class Interrupted extends FaultError {
  override readonly exitCode: number;
  /** By position in what was asked. */
  readonly answers: readonly (Float32Array | undefined)[];
  constructor(cause: unknown, answers: readonly (Float32Array | undefined)[]) {
    const known = cause instanceof InputError ? cause : undefined;
    super({ code: known?.code ?? 'teacher.failed', subject: (cause as Error).message, cause });
    this.exitCode = known?.exitCode ?? 3;
    this.answers = answers;
  }
}

/** The embedding side of a teacher that a config has been checked to have. */
export function embed(embedder: Teacher | undefined): NonNullable<Teacher['embed']> {
  if (!embedder?.embed)
    throw new FaultError({ code: 'run.no-embedder', subject: 'nothing embeds texts', remedy: "add an 'embedder'" });
  return embedder.embed;
}

/** A service answers as another model than the one whose numbers are kept. */
export const otherModel = (name: string, before: string, now: string): FaultError =>
  new FaultError({
    code: 'service.model-changed',
    subject: `${name} answered as the model '${shown(before).slice(0, 100)}' before and answers as '${shown(now).slice(0, 100)}' now, whose numbers do not belong together`,
    remedy:
      "name the model by its version under 'model', or choose another folder under 'cache'; the answer is not kept",
  });
