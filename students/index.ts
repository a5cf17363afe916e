/** @file Students: what is trained and saved. The kinds that a config knows are those of config/student.ts. */
export { loadStudent } from './encoder-student.ts';
export type { Student } from './student.ts';
