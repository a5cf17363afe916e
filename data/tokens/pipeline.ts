/** @file tokenizer.json as a function from texts to token ids, equal to Hugging Face's tokenizers 0.22. */
import { AddedTokens, readAddedToken } from './added-tokens.ts';
import { type Fields, fieldsOf, HIGHEST_ID, listOf, malformed, shown, unsupported } from './base/fields.ts';
import { type Decoder, readDecoder } from './decoders.ts';
import { readModel } from './models/index.ts';
import { inCharacters, type Located, readTrims, trim } from './offsets.ts';
import { readPostProcessor, type Templates } from './post-processor.ts';
import { alignedText, slice, sourceOf } from './text/aligned.ts';
import { readNormalizer } from './text/normalizers.ts';
import { asksForFirst, readPreTokenizer } from './text/pre-tokenizers.ts';

export interface TokenizerPipeline {
  /** Ids of a well-formed text without what the post-processor puts around. */
  encode(text: string): number[];
  /** The words of a text, as they go to the model. */
  words(text: string): string[];
  /**
   * The same with where each stands in the text: begin and end in characters (code points), two numbers an id, as the library's
   * offsets; -1 where they are not certain.
   */
  locate(text: string): Located;
  idOf(token: string): number | undefined;
  /** The token of an id; undefined where there is none. */
  tokenOf(id: number): string | undefined;
  /**
   * The text of some ids; ids of no token are left out.
   * @throws TokenizerRefusal where the decoder is not known
   */
  decode(ids: readonly number[], skipSpecial: boolean): string;
  readonly added: AddedTokens;
  readonly templates: Templates;
  /** Of the model and the added tokens. */
  highestId(): number;
}

/** Length of a text's prefix that shows whether its first character is kept. */
const BEGINNING = 256;

/**
 * Builds the pipeline from a parsed tokenizer.json.
 * @throws TokenizerRefusal naming the component or option that is not understood
 */
export function readPipeline(json: Fields): TokenizerPipeline {
  if (json.version !== undefined && json.version !== '1.0')
    throw unsupported(`it is of version ${shown(json.version)}, and 1.0 is known`);
  const normalizer = readNormalizer(json.normalizer);
  const preTokenizer = readPreTokenizer(json.pre_tokenizer);
  const model = readModel(json.model);
  const templates = readPostProcessor(json.post_processor);
  const added = new AddedTokens(model, normalizer);
  const tokens = json.added_tokens === undefined ? [] : listOf(json.added_tokens, 'added_tokens');
  for (const token of tokens) {
    const { id } = fieldsOf(token, 'an added token');
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > HIGHEST_ID)
      throw malformed(`the id of its added token ${shown(token)} is not a whole number from 0 to ${HIGHEST_ID}`);
  }
  added.add(tokens.map((t) => readAddedToken(t, 'an added token')));
  const wantsFirst = asksForFirst(json.pre_tokenizer);

  /** How many units of a normalised text come from the first character. */
  const firstUnits = (raw: string, normal: string): number => {
    if (!normalizer.keepsFirst(raw.slice(0, BEGINNING))) return 0;
    const alone = normalizer.apply(String.fromCodePoint(raw.codePointAt(0) as number));
    return alone && normal.startsWith(alone) ? alone.length : 1;
  };

  /** Calls back with every added token and every run of words, in order. */
  const walk = (text: string, onToken: (id: number) => void, onWords: (words: readonly string[]) => void): void => {
    for (const section of added.find(text)) {
      if (section.id >= 0) onToken(section.id);
      else if (section.from < section.to) {
        const raw = text.slice(section.from, section.to);
        const normal = normalizer.apply(raw);
        const start = wantsFirst && section.from === 0 ? firstUnits(raw, normal) : 0;
        for (const part of added.findNormalized(normal))
          if (part.id >= 0) onToken(part.id);
          else if (part.from < part.to)
            onWords(
              preTokenizer({
                texts: [normal.slice(part.from, part.to)],
                starts: start > part.from ? [start - part.from] : [],
              }).texts,
            );
      }
    }
  };
  const trims = readTrims(json.post_processor);
  let names: Map<number, string> | undefined;
  const tokenOf = (id: number): string | undefined => {
    names ??= new Map(Array.from(model.tokens(), ([token, of]) => [of, token]));
    return added.contentOf(id) ?? names.get(id);
  };
  let decoder: Decoder | undefined;

  /** As `walk`, with where everything comes from. */
  const walkAligned = (text: string): Located => {
    const [ids, spans, tokens]: [number[], number[], string[]] = [[], [], []];
    const whole = alignedText(text);
    for (const section of added.find(text)) {
      if (section.id >= 0) {
        ids.push(section.id);
        spans.push(section.from, section.to);
        tokens.push(text.slice(section.from, section.to));
        continue;
      }
      if (section.from >= section.to) continue;
      const raw = slice(whole, section.from, section.to);
      const normal = normalizer.align(raw);
      const start = wantsFirst && section.from === 0 ? firstUnits(raw.text, normal.text) : 0;
      for (const part of added.findNormalized(normal.text)) {
        if (part.id >= 0) {
          ids.push(part.id);
          spans.push(...sourceOf(normal, part.from, part.to));
          tokens.push(normal.text.slice(part.from, part.to));
          continue;
        }
        if (part.from >= part.to) continue;
        const words = preTokenizer({
          texts: [normal.text.slice(part.from, part.to)],
          starts: start > part.from ? [start - part.from] : [],
          sources: [slice(normal, part.from, part.to)],
        });
        for (const [i, word] of words.texts.entries()) {
          const source = words.sources?.[i];
          const own: number[] = [];
          const before = ids.length;
          model.encode(word, ids, own);
          for (let k = before; k < ids.length; k++) tokens.push(tokenOf(ids[k]) ?? '');
          for (let k = 0; k < own.length; k += 2)
            spans.push(...(source?.text === word ? sourceOf(source, own[k], own[k + 1]) : [-1, -1]));
        }
      }
    }
    return { ids, spans, tokens };
  };

  const encode = (text: string): number[] => {
    const ids: number[] = [];
    walk(
      text,
      (id) => ids.push(id),
      (words) => {
        for (let i = 0; i < words.length; i++) model.encode(words[i], ids);
      },
    );
    return ids;
  };
  return {
    encode,
    locate(text) {
      const ids = encode(text);
      const found = walkAligned(text);
      // The second walk must be the first one; else nothing is known.
      if (found.ids.length !== ids.length || found.ids.some((id, i) => id !== ids[i]))
        return { ids, spans: ids.flatMap(() => [-1, -1]), tokens: ids.map((id) => tokenOf(id) ?? '') };
      const spans = inCharacters(text, found.spans);
      const { tokens } = found;
      return { ids, tokens, spans: trims.reduce((sofar, prefix) => trim(sofar, tokens, prefix), spans) };
    },
    tokenOf,
    decode(ids, skipSpecial) {
      decoder ??= readDecoder(json.decoder);
      const tokens = ids.map(tokenOf).filter((t): t is string => t !== undefined);
      return decoder(skipSpecial ? tokens.filter((t) => !added.isSpecial(t)) : tokens).join('');
    },
    words(text) {
      const all: string[] = [];
      walk(
        text,
        () => {},
        (words) => {
          for (const word of words) all.push(word);
        },
      );
      return all;
    },
    idOf: (token) => added.idOf(token),
    added,
    templates,
    highestId: () => Math.max(model.highestId, added.highestId),
  };
}
