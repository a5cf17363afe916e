/** @file What a kind of student is: its options, what it is made of, and how it is opened. */
import type { z } from 'zod';
import type { Texts } from '../../data/dataset.ts';
import type { SentenceOptions } from '../../models/sentence-folder.ts';
import type { TokenTable } from '../static-order.ts';
import type { Student } from '../student.ts';

/** What a run gives to a student that is made; only what the kind `reads` may be asked for. */
export interface Sources {
  /** The documents and the training queries: a vocabulary of other queries would know what is measured. */
  texts(): Texts;
  documents(): Texts;
  seed: number;
  /** Folder of the dual-encoder whose documents are searched, and its vector of each token of its vocabulary alone. */
  embedder(): Promise<{ folder: string; tokens: TokenTable }>;
}

/**
 * One kind of student. The option of its own name says that a config asks for it: `student: { fresh: {} }`; students without one
 * are of the kind `model`.
 */
export interface StudentKind<S extends z.ZodRawShape = z.ZodRawShape, O = z.output<z.ZodObject<S>>> {
  /** Its options, each with a description, in addition to those that all kinds have (config/student.ts). */
  readonly options: S;
  /** What it is made of, whose content counts for everything made with it. `folder`: a trained encoder at `start`. */
  readonly reads: readonly ('folder' | keyof Sources)[];
  /** The one pipeline that trains it, and that trains no other kind. */
  readonly pipeline?: 'static-queries' | 'late-interaction';
  /** A paragraph of the model card of every student of the kind. */
  readonly card?: string;
  /** Options with the defaults that follow from the run's output folder and the folder of its embedder. */
  completed?(options: O, output: string, embedder?: string): O;
  /** What cannot be: a sentence and its remedy. @param exported dimensions that the run's export asks for */
  refused?(options: O, exported: { dimensions?: number | undefined }): readonly [string, string] | undefined;
  /** Folder of the encoder that training starts from, made by `open` where `reads` has no `folder`. */
  start?(options: O): string;
  /** As reports name it. */
  describe(options: O): string;
  /** Weights of one that is made, for the memory that training takes. */
  parameters?(options: O): number;
  /** Whether it is what a static file can hold: a table of one vector a token, or that with a gate. */
  isTable?(options: O): boolean;
  /** @throws InputError where it cannot be made or read */
  open(options: O & SentenceOptions, from: Sources): Promise<Student>;
}

/** A kind as a value; the types of its options follow from their schemas. */
export const defineStudent = <S extends z.ZodRawShape>(kind: StudentKind<S>): StudentKind<S> => kind;
