/** @file The registry of kinds of students. */
import * as studentKinds from './members.ts';

export type { Sources, StudentKind } from './kind.ts';
export { studentKinds };
