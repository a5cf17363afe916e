/** @file Options of a run that goes on from a checkpoint with new data, and what they change of the others. */
import { resolve } from 'node:path';
import { z } from 'zod';
import { isWithin } from '../../common/files.ts';

const path = z.string().min(1);

export const continueSchema = z
  .strictObject({
    from: path.describe('checkpoint that training goes on from'),
    data: path.describe(
      "the new data, as data.path, which names the old; a BEIR folder without a corpus judges the old data's documents",
    ),
    replay: z
      .number()
      .min(0)
      .max(0.9)
      .default(0.5)
      .describe('share of old queries, drawn at random, among those trained on; 0 for new queries alone'),
    match: z
      .number()
      .nonnegative()
      .default(2)
      .describe(
        'weight of embedding matching to the checkpoint, where no loss of the config matches embeddings already; 0 for none',
      ),
    target: z.enum(['checkpoint', 'embedder', 'none']).optional().describe('what embeddings are matched to; filled in'),
    start: path.optional().describe("folder that the config's student began from; filled in"),
  })
  .describe('a student goes on learning from new data; as distill run --continue CHECKPOINT --data NEW');

type Continue = z.output<typeof continueSchema>;
interface Parts {
  pipeline: string;
  output: string;
  continue?: Continue | undefined;
  student: { kind: string; model?: string; queryTokens: number; documentTokens: number };
  losses?: readonly { kind: string }[] | undefined;
  embedder?: unknown;
  train: { spans?: number | null | undefined };
  evaluate: { before: boolean };
}

/** Pipelines that train one student from where it stands. */
const CONTINUABLE: readonly string[] = ['cross-to-dual', 'dual-to-dual', 'inherit-documents'];

/** Why a config cannot be continued, as a subject and a remedy. */
export function* wrongContinue({ continue: c, pipeline, student, output }: Parts): Generator<[string, string]> {
  if (!c) return;
  if (student.kind === 'static' || pipeline === 'static-queries')
    yield [
      'a static student cannot be continued: its table is fitted to all texts at once, in minutes',
      'train it again on the old and the new data together',
    ];
  if (!CONTINUABLE.includes(pipeline))
    yield [
      `'pipeline: ${pipeline}' makes several students and 'continue' goes on with one`,
      `use one of ${CONTINUABLE.join(', ')} with the checkpoint of one of them`,
    ];
  if (isWithin(resolve(output), resolve(c.from)))
    yield [
      `'output': ${output} holds the checkpoint to continue, ${c.from}, which the run would write over`,
      'name another folder under output (--output)',
    ];
}

/**
 * The options with those that follow from `continue`: the student is the checkpoint, whole, and embeddings are matched to it where
 * no loss matches any. Applied again, nothing changes.
 * @param given losses of the config, with the default ones
 */
export function continued<C extends Parts>(config: C, given: readonly { kind: string }[], towers: 'both' | 'query'): C {
  const c = config.continue;
  if (!c || c.target) return config;
  const matches = given.some((l) => l.kind === 'embedding-matching');
  const target =
    matches || (towers === 'both' && config.embedder)
      ? ('embedder' as const)
      : c.match > 0
        ? ('checkpoint' as const)
        : ('none' as const);
  const { queryTokens, documentTokens } = config.student;
  // Pooling, length and prompts are those that the checkpoint's folder names.
  const student = { towers, queryTokens, documentTokens };
  const of = towers === 'query' ? 'queries' : 'both';
  // The gradient of the plain distance has length 1 at any distance, also where nothing has moved yet.
  const matching = { kind: 'embedding-matching', weight: c.match, of, distance: 'squared' };
  return {
    ...config,
    continue: { ...c, target: target === 'embedder' && !matches ? 'none' : target, start: config.student.model },
    student: { ...student, kind: 'model', model: c.from },
    losses: target === 'checkpoint' ? [...given, matching] : given,
    ...(target === 'checkpoint' && towers === 'both' && { embedder: { model: c.from, queryTokens, documentTokens } }),
    evaluate: { ...config.evaluate, before: true },
  };
}
