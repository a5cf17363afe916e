/** @file A YAML file is measured before it is parsed: some texts of 60 kB take the parser seconds, or for ever. */
import { Lexer } from 'yaml';
import { InputError } from '../../common/errors.ts';

/** Far above what options take; time to parse grows with the square of keys and of nesting. */
const MOST = { bytes: 256 * 1024, tokens: 20_000, keys: 2_000, depth: 32 };

/** Bytes of a file of options at most. */
export const LONGEST = MOST.bytes;

/** @throws InputError for a text beyond the limits, which are said */
export function refuseLargeYaml(text: string, file: string): void {
  const refuse = (what: string): never => {
    throw new InputError({
      code: 'config.malformed',
      subject: `${file} ${what}`,
      remedy: 'give the file of options; data are named by their paths',
    });
  };
  if (Buffer.byteLength(text) > MOST.bytes) refuse(`has more than ${MOST.bytes} bytes, which no options have`);
  let tokens = 0;
  let keys = 0;
  let brackets = 0;
  /** Indicators that open a level within a line. */
  let inLine = 0;
  for (const token of new Lexer().lex(text)) {
    if (++tokens > MOST.tokens) refuse(`has more than ${MOST.tokens} parts, which no options have`);
    if (token === '[' || token === '{') brackets++;
    else if (token === ']' || token === '}') brackets--;
    else if (token === '-' || token === '?') inLine++;
    else if (token === ':' && ++keys > MOST.keys) refuse(`has more than ${MOST.keys} keys, which no options have`);
    else if (token.includes('\n')) inLine = 0;
    if (brackets > MOST.depth || inLine > MOST.depth) refuse(`is nested deeper than ${MOST.depth} levels`);
  }
}
