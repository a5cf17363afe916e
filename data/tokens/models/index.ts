/** @file The models of tokenizer.json: a word as token ids. WordPiece and WordLevel are here, the others have their files. */

import { type Fields, fieldsOf, malformed, shown, text, unsupported, vocabularyOf } from '../base/fields.ts';
import { Trie } from '../base/trie.ts';
import { readBpe } from './bpe.ts';
import { highest, noUnknown, type TokenModel } from './ids.ts';
import { readUnigram } from './unigram.ts';

/** @throws TokenizerRefusal where the model or an option of it is not known */
export function readModel(value: unknown): TokenModel {
  const fields = fieldsOf(value, 'model');
  const type = fields.type ?? typeOfOld(fields);
  if (type === 'WordPiece') return cached(readWordPiece(fields));
  if (type === 'WordLevel') return readWordLevel(fields);
  if (type === 'BPE') return cached(readBpe(fields));
  if (type === 'Unigram') return cached(readUnigram(fields));
  throw unsupported(`its model ${shown(type)} is not supported (BPE, Unigram, WordLevel and WordPiece are)`);
}

/** Files of early versions do not name the model. */
function typeOfOld(fields: Fields): string {
  if (Array.isArray(fields.vocab)) return 'Unigram';
  if (fields.merges !== undefined) return 'BPE';
  return fields.max_input_chars_per_word === undefined ? 'WordLevel' : 'WordPiece';
}

/** Words longer than this are not kept. */
const LONGEST_KEPT = 256;
const MOST_KEPT = 60_000;

/** Keeps what short words became: most words of a text come again. */
function cached(model: TokenModel): TokenModel {
  let known = new Map<string, readonly number[]>();
  return {
    ...model,
    encode(word, ids, spans) {
      if (spans) return model.encode(word, ids, spans);
      const found = known.get(word);
      if (found) {
        for (let i = 0; i < found.length; i++) ids.push(found[i]);
        return;
      }
      if (word.length > LONGEST_KEPT) return model.encode(word, ids);
      const fresh: number[] = [];
      model.encode(word, fresh);
      if (known.size >= MOST_KEPT) known = new Map();
      // A slice of a text would keep the whole text.
      known.set(word.length > 12 ? Buffer.from(word, 'utf16le').toString('utf16le') : word, fresh);
      for (let i = 0; i < fresh.length; i++) ids.push(fresh[i]);
    },
  };
}

function readWordLevel(fields: Fields): TokenModel {
  const ids = vocabularyOf(fields.vocab, 'WordLevel');
  const unknown = ids.get(text(fields, 'unk_token', 'WordLevel'));
  return {
    encode(word, out, spans) {
      const id = ids.get(word) ?? unknown;
      if (id === undefined) throw noUnknown('WordLevel');
      out.push(id);
      spans?.push(0, word.length);
    },
    tokens: () => ids,
    idOf: (token) => ids.get(token),
    size: ids.size,
    highestId: highest(ids.values()),
  };
}

/** @source greedy longest match first, models/wordpiece of Hugging Face's tokenizers */
function readWordPiece(fields: Fields): TokenModel {
  const ids = vocabularyOf(fields.vocab, 'WordPiece');
  const unknown = ids.get(text(fields, 'unk_token', 'WordPiece'));
  const prefix = text(fields, 'continuing_subword_prefix', 'WordPiece');
  const longest = fields.max_input_chars_per_word;
  if (typeof longest !== 'number' || !Number.isInteger(longest) || longest < 0 || longest > 2 ** 32)
    throw malformed(`max_input_chars_per_word of WordPiece is ${shown(longest)}, not a whole number up to 2^32`);
  const beginnings = new Trie();
  const continuations = new Trie();
  for (const [token, id] of ids) {
    if (token) beginnings.set(token, id);
    if (token.startsWith(prefix) && token.length > prefix.length) continuations.set(token.slice(prefix.length), id);
  }
  return {
    encode(word, out, spans) {
      const before = out.length;
      const marked = spans?.length ?? 0;
      let at = isLonger(word, longest) ? -1 : 0;
      while (at >= 0 && at < word.length) {
        const found = (at ? continuations : beginnings).longest(word, at);
        if (found) {
          out.push(found[1]);
          spans?.push(at, found[0]);
        }
        at = found ? found[0] : -1;
      }
      if (at >= 0) return;
      if (unknown === undefined) throw noUnknown('WordPiece');
      out.length = before;
      out.push(unknown);
      if (!spans) return;
      spans.length = marked;
      spans.push(0, word.length);
    },
    tokens: () => ids,
    idOf: (token) => ids.get(token),
    size: ids.size,
    highestId: highest(ids.values()),
  };
}

/** Whether a word has more characters than so many. */
function isLonger(word: string, characters: number): boolean {
  if (word.length <= characters) return false;
  return word.length > 2 * characters || Array.from(word).length > characters;
}
