/** @file What the models share. */
import { type TokenizerRefusal, unsupported } from '../base/fields.ts';

export function highest(ids: Iterable<number>): number {
  let most = -1;
  for (const id of ids) if (id > most) most = id;
  return most;
}

/** What happens at a word that has no token where the file names none for it, as in the library. */
export const noUnknown = (model: string): TokenizerRefusal =>
  unsupported(
    `its model ${model} has no token for unknown words in its vocabulary, and a text needs one`,
    "add the model's unk_token to the vocabulary, or use a model whose tokenizer has one",
  );

export interface TokenModel {
  /**
   * Adds the ids of a word that is not empty.
   * @param spans gets the begin and end, in units of the word, of what each id stands for; -1 where that is not known
   */
  encode(word: string, ids: number[], spans?: number[]): void;
  /** Tokens with their ids. */
  tokens(): Iterable<readonly [string, number]>;
  idOf(token: string): number | undefined;
  /** Distinct tokens. */
  readonly size: number;
  readonly highestId: number;
}
