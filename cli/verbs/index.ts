/** @file The verbs, in the order that help lists them. */
import type { Verb } from '../terminal/verb.ts';
import { cache } from './cache.ts';
import { check } from './check.ts';
import { compare } from './compare.ts';
import { demo } from './demo.ts';
import { embedVerb } from './embed.ts';
import { evaluate } from './evaluate.ts';
import { exportVerb } from './export.ts';
import { init } from './init.ts';
import { push } from './push.ts';
import { run } from './run.ts';
import { schema } from './schema.ts';
import { score } from './score.ts';
import { cascadeVerb } from './search/cascade.ts';
import { exitsVerb } from './search/exits.ts';
import { impactsVerb } from './search/impacts.ts';
import { indexVerb } from './search/index-verb.ts';
import { search } from './search/search.ts';
import { semanticCacheVerb } from './search/semantic-cache.ts';
import { serve } from './search/serve.ts';
import { splitVerb } from './search/split.ts';
import { narrowVerb } from './sizes/narrow.ts';
import { rotateVerb } from './sizes/rotate.ts';
import { trainTeacher } from './train-teacher.ts';
import { worker } from './worker.ts';

export const verbs: readonly Verb[] = [
  demo,
  init,
  run,
  trainTeacher,
  evaluate,
  compare,
  exportVerb,
  impactsVerb,
  rotateVerb,
  narrowVerb,
  indexVerb,
  search,
  cascadeVerb,
  exitsVerb,
  splitVerb,
  semanticCacheVerb,
  serve,
  push,
  score,
  embedVerb,
  worker,
  check,
  cache,
  schema,
];
