/** @file The normalizer Precompiled: sentencepiece's table of replacements, a double-array trie over UTF-8. */

import { malformed } from '../base/fields.ts';
import { segmentsOf } from './segments.ts';

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });
/** Graphemes of a text. */
export function* graphemes(text: string): Generator<string> {
  for (const { segment } of segmentsOf(segmenter, text)) yield segment;
}

/**
 * Reads the table and gives its use. A grapheme of fewer than six bytes is looked up whole, then each character; the
 * shortest entry that begins it counts, as in the library.
 *
 * @param encoded base64: bytes of the trie (32 bits, little endian), the trie, the replacements with a 0 behind each
 * @source spm_precompiled 0.1 and normalizers/precompiled.rs of tokenizers; double array of darts-clone
 */
export function readCharsmap(encoded: string | undefined): (text: string) => string {
  if (!encoded) throw malformed('its normalizer Precompiled has no precompiled_charsmap');
  const bytes = Buffer.from(encoded, 'base64');
  const size = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
  if (size % 4 || size < 4 || size > bytes.length - 4)
    throw malformed('the precompiled_charsmap of its normalizer is cut off');
  const trie = new Uint32Array(size / 4);
  for (let i = 0; i < trie.length; i++) trie[i] = bytes.readUInt32LE(4 + 4 * i);
  const replacements = bytes.subarray(4 + size);

  const offset = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
  const find = (part: string): string | undefined => {
    const key = Buffer.from(part, 'utf8');
    let at = offset(trie[0]);
    for (const byte of key) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = at < trie.length ? trie[at] : 0;
      if ((unit & 0x800000ff) !== byte) return undefined;
      at ^= offset(unit);
      if (unit & 0x100) {
        const from = (trie[at] ?? 0) & 0x7fffffff;
        const to = replacements.indexOf(0, from);
        return replacements.toString('utf8', from, to < 0 ? replacements.length : to);
      }
    }
    return undefined;
  };
  const known = new Map<string, string | undefined>();
  const lookUp = (part: string): string | undefined => {
    if (known.has(part)) return known.get(part);
    const found = find(part);
    if (known.size > 50_000) known.clear();
    known.set(part, found);
    return found;
  };

  const whole = (grapheme: string): string => {
    if (grapheme.length < 6 && Buffer.byteLength(grapheme) < 6) {
      const found = lookUp(grapheme);
      if (found !== undefined) return found;
    }
    let out = '';
    for (const character of grapheme) out += lookUp(character) ?? character;
    return out;
  };
  const ascii = Array.from({ length: 128 }, (_, c) => lookUp(String.fromCharCode(c)) ?? String.fromCharCode(c));
  const plain = (text: string): string => {
    if (!/[^ -~]/.test(text) && !asciiChanges) return text;
    let out = '';
    for (let i = 0; i < text.length; i++) {
      const pair = text.charCodeAt(i) === 13 && text.charCodeAt(i + 1) === 10 ? lookUp('\r\n') : undefined;
      if (pair === undefined) out += ascii[text.charCodeAt(i)];
      else {
        out += pair;
        i++;
      }
    }
    return out;
  };
  const asciiChanges = ascii.slice(0x20, 0x7f).some((c, i) => c !== String.fromCharCode(0x20 + i));
  return (text) => {
    let out = '';
    let from = 0;
    for (let at = 0; at < text.length; ) {
      if (text.charCodeAt(at) < 0x80) {
        at++;
        continue;
      }
      // Graphemes of several characters hold one beyond ASCII, or are \r\n: one character before is of the run, and those after
      // to the next two of ASCII.
      const start = Math.max(from, at - 1);
      while (at < text.length && !(text.charCodeAt(at) < 0x80 && !(text.charCodeAt(at + 1) >= 0x80))) at++;
      at += text.startsWith('\r\n', at) ? 2 : at < text.length ? 1 : 0;
      out += plain(text.slice(from, start));
      for (const grapheme of graphemes(text.slice(start, at))) out += whole(grapheme);
      from = at;
    }
    return out + plain(text.slice(from));
  };
}
