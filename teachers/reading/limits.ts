/** @file How long a text a teacher reads: the smallest of what its tokenizer, its config and its graph say. */
import type { PairLimits } from '../../data/tokenizer.ts';

type Config = Readonly<Record<string, unknown>>;

/** Where no file says how long a text may be. */
const USUAL_LENGTH = 512;

/** Families whose positions count from the padding token's id plus 1, so that so many fewer can be used. */
export const countFromPad: ReadonlySet<string> = new Set(
  'roberta xlm-roberta xlm-roberta-xl roberta-prelayernorm camembert mpnet xmod longformer ibert data2vec-text luke mluke markuplm layoutlmv3 lilt esm'.split(
    ' ',
  ),
);

/** The position of a text's first token: RoBERTa and its kind start after the padding token's id. */
export function firstPosition(config: Config, padId: number): number {
  if (!countFromPad.has(String(config.model_type))) return 0;
  return (typeof config.pad_token_id === 'number' ? config.pad_token_id : padId) + 1;
}

/** Tokens that a config says the model has positions for; undefined where it does not say. */
export function positionsOf(config: Config, padId: number): number | undefined {
  const stated = [config.max_position_embeddings, config.n_positions, config.max_seq_len].find(
    (n) => typeof n === 'number' && n > 0,
  ) as number | undefined;
  return stated === undefined ? undefined : stated - firstPosition(config, padId);
}

export interface LengthLimits extends Required<Pick<PairLimits, 'maxLength'>>, PairLimits {
  maxLength: number;
}

/**
 * @param asked what the config or program asks for; longer than the model can read, it is taken as far as it goes
 * @returns the limits, what the model can read at all, and a note where less than asked for is read
 */
export function lengthLimits(
  asked: PairLimits,
  { tokenizer, positions, fixed }: { tokenizer?: number; positions?: number; fixed?: number },
): { limits: LengthLimits; hard: number; note?: string } {
  const hard = Math.min(positions ?? Number.POSITIVE_INFINITY, fixed ?? Number.POSITIVE_INFINITY);
  const usual = Math.min(hard, tokenizer ?? Number.POSITIVE_INFINITY);
  const maxLength = Math.min(asked.maxLength ?? (Number.isFinite(usual) ? usual : USUAL_LENGTH), hard);
  const { maxQuery, maxDocument } = asked;
  const limits = { maxLength, maxQuery, maxDocument };
  if (asked.maxLength === undefined || asked.maxLength <= maxLength) return { limits, hard };
  return {
    limits,
    hard,
    note: `maxLength ${asked.maxLength} is more than the ${maxLength} tokens that the model reads`,
  };
}
