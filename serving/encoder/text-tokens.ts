/** @file Texts as an encoder's tokens, and ids as texts. */
import type { TextToken, TextTokenizer } from '../../data/tokenizer.ts';
import { type Prompts, withPrompt } from '../../models/modules/prompts.ts';

/** What is put around a text before it becomes tokens. */
export interface TokenizeOptions {
  /** Whose prompt is put around the text; none by default. Places of tokens count in the text with its prompt. */
  role?: 'query' | 'document' | undefined;
  /** Whether the special tokens around a text are given; true by default. */
  specialTokens?: boolean | undefined;
}

/** What every open encoder says of tokens. */
export interface Tokens {
  /**
   * A text's tokens with their places in it, not cut at the encoder's limit.
   * @returns start and stop in characters (code points); null for special tokens, and where they are not certain
   */
  tokenize(text: string, options?: TokenizeOptions): TextToken[];
  /**
   * The text that some ids stand for.
   * @param skipSpecial leaves special tokens out; true by default
   * @throws InputError where the tokenizer has a decoder that is not known
   */
  decode(ids: readonly number[], skipSpecial?: boolean): string;
}

export const tokensOf = (tokenizer: TextTokenizer, prompts: Prompts): Tokens => ({
  tokenize: (text, { role, specialTokens } = {}) =>
    tokenizer.tokensOf(role ? withPrompt(prompts[role], text) : text, specialTokens),
  decode: (ids, skipSpecial) => tokenizer.decode(ids, skipSpecial),
});
