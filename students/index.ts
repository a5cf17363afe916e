/** @file The kinds of student, by name: each is a function that opens a folder and gives a `Student`. */
import { loadStudent } from './encoder-student.ts';
import { staticStudent } from './static-encoder.ts';

export const students = {
  /** A transformer, whole or cut to some of its layers. */
  encoder: loadStudent,
  /** A table of token vectors, made of a dual-encoder's tokens. */
  static: staticStudent,
} as const;

export type StudentKind = keyof typeof students;
export const studentKinds = Object.keys(students) as StudentKind[];

export { loadStudent, type StudentOptions } from './encoder-student.ts';
export type { Student, Weights } from './student.ts';
