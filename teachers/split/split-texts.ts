/** @file Tokens of a query and of a document that are read alone, as the layers below a cut take them. */
import { InputError } from '../../common/errors.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import { type Prompt, withPrompt } from '../../models/modules/prompts.ts';
import type { FolderReading } from '../reading/describe.ts';

/** The type that stands for padding between a query and a document in one row. */
export const GAP = 2;

export interface SplitTexts {
  query(text: string): Tokens;
  document(text: string): Tokens;
  /** Both as one row: the query padded to `width` tokens of type GAP, and the document behind it. */
  row(query: Tokens, document: Tokens, width: number): Tokens;
}

/**
 * @param documentStart position of a document's first token
 * @throws InputError where the tokenizer does not tell the texts apart, or the model has no positions left for a document
 */
export function splitTexts(
  { tokenizer, limits, hard, files }: Pick<FolderReading, 'tokenizer' | 'limits' | 'hard' | 'files'>,
  prompts: { query: Prompt; document: Prompt },
  documentStart: number,
): SplitTexts {
  const side = (query: string, document: string, type: 0 | 1, most = limits): Tokens => {
    const { ids, typeIds } = tokenizer.encodePair(query, document, most);
    const own = ids.filter((_, i) => typeIds[i] === type);
    return { ids: own, typeIds: new Int32Array(own.length).fill(type) };
  };
  // One pair says whether the tokenizer tells the texts apart.
  if (!tokenizer.encodePair('a', 'b', limits).typeIds.includes(1))
    throw new InputError({
      code: 'split.model',
      subject: `${files.model} has no token types, which say where a document begins`,
      remedy: 'use a cross-encoder of the kind of BERT',
    });
  // A document is cut where the model's positions end.
  const room = hard - documentStart - side('', '', 1).ids.length;
  if (!(Number.isInteger(documentStart) && documentStart >= 0 && room > 0))
    throw new InputError({
      code: 'split.start',
      subject: `documents begin at position ${documentStart}`,
      expected: `a whole number from 0 to ${hard - side('', '', 1).ids.length - 1}, of the ${hard} positions of ${files.model}`,
      remedy: 'choose a smaller one',
    });
  const cut = { ...limits, maxDocument: Math.min(limits.maxDocument ?? Number.POSITIVE_INFINITY, room) };
  return {
    query: (text) => side(withPrompt(prompts.query, text), '', 0),
    document: (text) => side('', withPrompt(prompts.document, text), 1, cut),
    row(query, document, width) {
      const gap = Math.max(0, width - query.ids.length);
      return {
        ids: Int32Array.from([...query.ids, ...new Array(gap).fill(tokenizer.padId), ...document.ids]),
        typeIds: Int32Array.from([...query.typeIds, ...new Array(gap).fill(GAP), ...document.typeIds]),
      };
    },
  };
}
