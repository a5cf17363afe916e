/** @file GPT-2's way to write bytes as printable characters. */

/** The character of each byte: itself where it is printable, one from U+0100 on otherwise. */
export const byteCharacters: readonly string[] = (() => {
  const table: string[] = [];
  let next = 0x100;
  for (let b = 0; b < 256; b++) {
    const printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    table.push(String.fromCharCode(printable ? b : next++));
  }
  return table;
})();

/** A well-formed text's UTF-8, a character a byte. */
export function bytesAsCharacters(text: string): string {
  if (!/[^!-~]/.test(text)) return text;
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) out += byteCharacters[unit];
    else if (unit < 0x800) out += byteCharacters[0xc0 | (unit >> 6)] + byteCharacters[0x80 | (unit & 63)];
    else if (unit >= 0xd800 && unit <= 0xdbff) {
      const code = text.codePointAt(i++) as number;
      out +=
        byteCharacters[0xf0 | (code >> 18)] +
        byteCharacters[0x80 | ((code >> 12) & 63)] +
        byteCharacters[0x80 | ((code >> 6) & 63)] +
        byteCharacters[0x80 | (code & 63)];
    } else
      out +=
        byteCharacters[0xe0 | (unit >> 12)] +
        byteCharacters[0x80 | ((unit >> 6) & 63)] +
        byteCharacters[0x80 | (unit & 63)];
  }
  return out;
}

/** The bytes of a text as byte fallback names them: `<0x0A>`. */
export const byteTokens = (text: string): string[] =>
  Array.from(Buffer.from(text, 'utf8'), (b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
