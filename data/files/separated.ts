/** @file Rows of CSV and TSV files. */
import { Readable } from 'node:stream';
import { CsvError, type Options, parse } from 'csv-parse';
import { InputError, shown } from '../../common/errors.ts';
import { readText, unreadable } from './lines.ts';
import type { Row } from './row.ts';

/** Bytes of one row, as of one line. */
const LONGEST_ROW = 64 * 1024 ** 2;

/**
 * Rows of a file of separated columns. In TSV, sentence-transformers leaves quotation marks as they are and pandas quotes:
 * fields are unquoted where every field that begins with a quotation mark is quoted correctly to its end.
 */
export async function* readSeparated(
  file: string,
  delimiter: ',' | '\t',
  { header = true }: { header?: boolean } = {},
): AsyncGenerator<Row> {
  const quotes = delimiter === ',' ? 'read' : await quotesOf(file);
  const format: Options = delimiter === ',' ? {} : quotes === 'read' ? { relax_quotes: true } : { quote: null };
  const note =
    quotes === 'kept' ? 'quotation marks are part of the texts: they do not enclose whole fields' : undefined;
  const parser = parse({ ...format, delimiter, info: true, skip_empty_lines: true, max_record_size: LONGEST_ROW });
  const source = Readable.from(readText(file));
  source.on('error', (e) => parser.destroy(e));
  source.pipe(parser);
  let columns: string[] | undefined;
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      if (!columns) {
        columns = header ? namesOf(record, file) : record.map((_, i) => String(i + 1));
        if (header) continue;
      }
      const names = columns;
      yield {
        values: Object.fromEntries(names.map((c, i) => [c, record[i]])),
        where: `${file} line ${info.lines}`,
        headed: header,
        note,
      };
    }
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw unreadable(file, cause);
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} cannot be split into columns (${cause.message})`,
      remedy:
        delimiter === ','
          ? 'fix the line, and put quotation marks around texts that hold a comma or a quotation mark'
          : 'fix the line, and put quotation marks around texts that hold a tab, in every line alike',
      cause,
    });
  } finally {
    source.destroy();
  }
}

/** The columns' names; one without a name, as pandas writes its index, is called by its place. */
function namesOf(record: readonly string[], file: string): string[] {
  const names = record.map((c, i) => c.trim() || `(column ${i + 1})`);
  const twice = names.find((n, i) => names.indexOf(n) !== i);
  const other = names.length === 1 ? /[;|\t,]/.exec(names[0])?.[0] : undefined;
  if (other !== undefined)
    throw new InputError({
      code: 'data.separator',
      subject: `${file}: its first line (${shown(names[0]).slice(0, 60)}) is one column that holds '${shown(other)}'`,
      expected: 'columns separated by commas in .csv, by tabs in .tsv',
      remedy: other === '\t' ? 'rename it to .tsv' : other === ',' ? 'rename it to .csv' : 'save it with commas',
    });
  if (twice !== undefined)
    throw new InputError({
      code: 'data.duplicate-column',
      subject: `${file} has two columns called '${twice}'`,
      remedy: 'give each column a name of its own',
    });
  return names;
}

const [QUOTE, TAB, NEWLINE, RETURN] = [34, 9, 10, 13];

/** Whether quotation marks of a TSV file enclose fields (`read`), are letters (`kept`), or never begin a field (`none`). */
async function quotesOf(file: string): Promise<'read' | 'kept' | 'none'> {
  let state: 'start' | 'plain' | 'within' | 'closing' = 'start';
  let found = false;
  try {
    for await (const block of readText(file)) {
      // Nothing to see where no quotation mark is near.
      if (state !== 'within' && state !== 'closing' && !block.includes(QUOTE)) {
        state = 'start';
        continue;
      }
      for (const byte of block) {
        if (state === 'within') {
          if (byte === QUOTE) state = 'closing';
        } else if (state === 'closing') {
          if (byte === QUOTE) state = 'within';
          else if (byte === TAB || byte === NEWLINE) state = 'start';
          else if (byte !== RETURN) return 'kept';
        } else if (state === 'start' && byte === QUOTE) [state, found] = ['within', true];
        else state = byte === TAB || byte === NEWLINE ? 'start' : 'plain';
      }
    }
  } catch (cause) {
    throw unreadable(file, cause);
  }
  return state === 'within' ? 'kept' : found ? 'read' : 'none';
}
