/** @file The verbs, in the order that help lists them. */
import type { Verb } from '../verb.ts';
import { check } from './check.ts';
import { evaluate } from './evaluate.ts';
import { exportVerb } from './export.ts';
import { push } from './push.ts';
import { run } from './run.ts';
import { schema } from './schema.ts';
import { score } from './score.ts';

export const verbs: readonly Verb[] = [run, evaluate, exportVerb, push, score, check, schema];
