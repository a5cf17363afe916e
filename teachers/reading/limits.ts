/** @file The length limit of a teacher: the smallest of those of its tokenizer, its config and its graph. */
import type { PairLimits } from '../../data/tokenizer.ts';

/** Where no file says how long a text may be. */
const USUAL_LENGTH = 512;

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
