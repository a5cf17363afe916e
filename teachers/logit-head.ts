/** @file The head that makes an encoder a cross-encoder. */
import { InputError } from '../common/errors.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { Random } from '../math/random.ts';
import { appendHead } from '../models/bert.ts';

/** Makes an encoder a cross-encoder: its first token's vector through a dense layer and tanh to one logit. */
export function appendLogitHead(model: Graph, config: Record<string, unknown>, name: string, seed: number): void {
  const last = model.outputs.find((v) => v.name === 'last_hidden_state') ?? model.outputs[0];
  const stated = last?.dims?.at(-1);
  const width = typeof stated === 'number' ? stated : Number(config.hidden_size ?? config.dim);
  if (!last || !(width > 0))
    throw new InputError({
      code: 'teacher.width',
      subject: `${name} says nowhere how wide its token vectors are`,
      expected: 'hidden_size in config.json',
      remedy: 'add it, or start from a cross-encoder',
    });
  appendHead(model, width, Random.of(seed, 'head'));
}
