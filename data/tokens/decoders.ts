/** @file The decoders of tokenizer.json: tokens as a text again. */
import { byteCharacters } from './base/byte-level.ts';
import { count, type Fields, fieldsOf, flag, listOf, malformed, shown, text, unsupported } from './base/fields.ts';
import { replaceMatches } from './text/normalizers.ts';
import { matches, readPattern } from './text/regex.ts';

/** Changes the tokens of a text; joined, those that are left are the text. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/**
 * @throws TokenizerRefusal where the decoder or an option of it is not known
 * @source decoders of Hugging Face's tokenizers 0.22
 */
export function readDecoder(value: unknown): Decoder {
  // The library puts spaces between tokens where a file has no decoder.
  if (value === null || value === undefined) return (tokens) => [tokens.join(' ')];
  return read(value);
}

function read(value: unknown): Decoder {
  const fields = fieldsOf(value, 'decoder');
  const kind = String(fields.type);
  if (Object.hasOwn(kinds, kind)) return kinds[kind](fields);
  throw unsupported(`its decoder ${shown(fields.type)} is not supported (${Object.keys(kinds).join(', ')} are)`);
}

const kinds: Record<string, (fields: Fields) => Decoder> = {
  WordPiece(fields) {
    const prefix = text(fields, 'prefix', 'WordPiece');
    const cleans = flag(fields, 'cleanup', 'WordPiece');
    return (tokens) =>
      tokens.map((token, i) => {
        const whole = !i ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
        return cleans ? cleanUp(whole) : whole;
      });
  },
  ByteLevel: () => (tokens) => [Buffer.concat(tokens.map(bytesOf)).toString('utf8')],
  Metaspace(fields) {
    const mark = text(fields, 'replacement', 'Metaspace');
    const scheme = fields.prepend_scheme ?? (fields.add_prefix_space === false ? 'never' : 'always');
    return (tokens) =>
      tokens.map((token, i) => (i || scheme === 'never' ? token.replaceAll(mark, ' ') : token.replaceAll(mark, '')));
  },
  BPEDecoder(fields) {
    const suffix = text(fields, 'suffix', 'BPEDecoder');
    return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? '' : ' '));
  },
  ByteFallback: () => fromBytes,
  Fuse: () => (tokens) => [tokens.join('')],
  Strip(fields) {
    const content = text(fields, 'content', 'Strip');
    if ([...content].length !== 1) throw malformed(`content of Strip is ${shown(content)}, not one character`);
    const [start, stop] = [count(fields, 'start', 'Strip'), count(fields, 'stop', 'Strip')];
    return (tokens) =>
      tokens.map((token) => {
        let [from, to] = [0, token.length];
        for (let k = 0; k < start && token.startsWith(content, from); k++) from += content.length;
        for (let k = 0; k < stop && to > from && token.slice(0, to).endsWith(content); k++) to -= content.length;
        return token.slice(from, to);
      });
  },
  Replace(fields) {
    const pattern = readPattern(fields.pattern, 'Replace');
    const content = text(fields, 'content', 'Replace');
    return (tokens) => tokens.map((token) => replaceMatches(token, matches(pattern, token), content));
  },
  Sequence(fields) {
    const parts = listOf(fields.decoders, 'decoders of Sequence').map(read);
    return (tokens) => parts.reduce((sofar, part) => part(sofar), tokens);
  },
};

/** Spaces before marks and contractions out. @source decoders/wordpiece.rs, cleanup */
const cleanUp = (t: string): string =>
  [
    [' .', '.'],
    [' ?', '?'],
    [' !', '!'],
    [' ,', ','],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [' do not', " don't"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ].reduce((sofar, [from, to]) => sofar.replaceAll(from, to), t);

const byteOf: ReadonlyMap<string, number> = new Map(byteCharacters.map((c, b) => [c, b]));

/** The bytes that a token's characters stand for; its own where one of them stands for none. */
function bytesOf(token: string): Buffer {
  const bytes = Array.from(token, (c) => byteOf.get(c));
  return bytes.includes(undefined) ? Buffer.from(token, 'utf8') : Buffer.from(bytes as number[]);
}

/** Runs of tokens such as `<0x0A>` as the characters whose bytes they are; one sign a byte where they are none. */
function fromBytes(tokens: readonly string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const settle = (): void => {
    if (!run.length) return;
    try {
      out.push(strict.decode(Uint8Array.from(run)));
    } catch {
      for (const _ of run) out.push('\ufffd');
    }
    run = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9a-f]{2})>$/i.exec(token)?.[1];
    if (byte !== undefined) run.push(Number.parseInt(byte, 16));
    else {
      settle();
      out.push(token);
    }
  }
  settle();
  return out;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
