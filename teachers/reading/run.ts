/** @file Runs tokens through a teacher's session, in batches as its file takes them. */
import { FaultError, InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { ModelFile } from '../../engine/io/model-file.ts';
import { bytesOfWidths, tokensWithin } from '../../engine/runtime/forward-memory.ts';
import type { Session } from '../../engine/runtime/session.ts';
import type { InputPlan } from './inputs.ts';

export interface Runner {
  file: string;
  session: Session;
  plan: InputPlan;
  /** The output that is read. */
  output: string;
  /** Padded tokens a batch, and the most tokens of a text. */
  batchTokens: number;
  maxLength: number;
  bytesAToken: (length: number) => number;
  /** Whether it was said that batches are smaller than they would be. */
  told?: boolean;
}

/** Says notes once, to the first who listens. */
export function teller(notes: readonly string[]): (watch: RunControl) => void {
  let told = false;
  return ({ onProgress }) => {
    if (told || !onProgress) return;
    told = true;
    for (const note of notes) onProgress({ stage: 'score', done: 0, unit: 'pairs', note });
  };
}

/** Default where neither the graph nor the config gives the width. */
const USUAL_WIDTH = 768;

/** Memory per token in a forward pass, from the graph's token table or from config.json. */
export function bytesAToken(
  { table }: ModelFile,
  config: Readonly<Record<string, unknown>>,
): (length: number) => number {
  const number = (...names: string[]): number | undefined =>
    names.map((n) => config[n]).find((n): n is number => typeof n === 'number' && n > 0);
  const hidden = table?.hidden ?? number('hidden_size', 'd_model', 'dim', 'n_embd') ?? USUAL_WIDTH;
  const stated = number('intermediate_size', 'hidden_dim', 'd_ff', 'ffn_dim') ?? 4 * hidden;
  return bytesOfWidths({ hidden, widest: table && table.widest > hidden ? table.widest : Math.max(hidden, stated) });
}

/** A batch's output, which texts its rows are, and its padded length; rows beyond the texts fill the batch up. */
export type Take = (output: Tensor, at: readonly number[], length: number) => void;

/** Runs every text once. @throws FaultError with ONNX Runtime's own words where it fails */
export async function runTokens(r: Runner, tokens: readonly Tokens[], watch: RunControl, take: Take): Promise<void> {
  const lengths = tokens.map((t) => t.ids.length);
  const longest = lengths.reduce((a, b) => Math.max(a, b), 1);
  const most = tokensWithin(r.batchTokens, watch.memory, r.bytesAToken(longest));
  if (most < r.batchTokens && !r.told && watch.onProgress) {
    r.told = true;
    const note = `memory: pairs are scored ${most} padded tokens at a time instead of ${r.batchTokens}`;
    watch.onProgress({ stage: 'score', done: 0, unit: 'pairs', note });
  }
  for (const { at, ...shape } of r.plan.batches(lengths, most, r.session.onDevice, r.maxLength)) {
    watch.signal?.throwIfAborted();
    const feeds = r.plan.feeds(
      at.map((i) => tokens[i]),
      shape,
    );
    take(await ran(r, feeds, shape), at, shape.length);
  }
}

async function ran(
  { session, output, file }: Runner,
  feeds: Parameters<Session['run']>[0],
  { rows, length }: { rows: number; length: number },
) {
  try {
    return (await session.run(feeds, {}, [output]))[output];
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    const words = (cause as Error).message.replace(/\s+/g, ' ').trim();
    throw new FaultError({
      code: 'teacher.run',
      subject: `ONNX Runtime cannot run ${file} on ${rows} texts of ${length} tokens (${words})`,
      remedy: /alloc|memory/i.test(words)
        ? "set 'memory' to less, or free some"
        : 'compare its config.json and tokenizer.json with the model that was exported, or export it again',
      cause,
    });
  }
}
