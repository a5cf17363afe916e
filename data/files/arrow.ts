/** @file Rows of Arrow files: streams, as `datasets` keeps them, and files (Feather 2). */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';
import { checkArrow, DAMAGED } from './arrow-check.ts';
import type { Row } from './row.ts';

/** A record batch at a time. @throws InputError where the file cannot be read */
export async function* readArrow(file: string): AsyncGenerator<Row> {
  let at = 0;
  try {
    await checkArrow(file);
    // A value takes a bit at least: what claims more would fill the memory.
    const most = 8 * (await stat(file)).size;
    let items = 0;
    const count = (more: number): void => {
      items += more;
      if (!(more >= 0 && items <= most)) throw new Error('it claims more values than its bytes hold');
    };
    const { RecordBatchReader } = await import('apache-arrow');
    const source = createReadStream(file);
    try {
      const reader = await RecordBatchReader.from(source);
      await reader.open();
      for await (const batch of reader) {
        count(batch.numRows);
        const columns = batch.schema.fields.map((f, i) => [f.name, batch.getChildAt(i)] as const);
        for (let r = 0; r < batch.numRows; r++)
          yield {
            values: Object.fromEntries(columns.map(([name, column]) => [name, plain(column?.get(r), count)])),
            where: `${file} row ${++at}`,
          };
      }
    } finally {
      source.destroy();
    }
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    // What the library says of a value that is not there tells a reader nothing.
    const damaged = cause instanceof TypeError || cause instanceof RangeError;
    const why = damaged ? DAMAGED : ((cause as NodeJS.ErrnoException).code ?? (cause as Error).message);
    throw new InputError({
      code: 'data.unreadable',
      subject: `cannot read ${file} (${why})`,
      remedy: 'check that it is a whole Arrow file without compressed buffers, or write it as Parquet',
      cause,
    });
  }
}

/** Lists as arrays, records as objects, everything else as it is. @param count is told of the items of a list */
function plain(value: unknown, count: (items: number) => void): unknown {
  if (value === null || typeof value !== 'object') return value;
  // A record can be walked too, and has no length.
  if (!('length' in value) && 'toJSON' in value && typeof value.toJSON === 'function') {
    const fields = Object.entries(value.toJSON() as object);
    return Object.fromEntries(fields.map(([name, own]) => [name, plain(own, count)]));
  }
  if (!(Symbol.iterator in value)) return value;
  if ('length' in value) count(Number(value.length));
  return Array.from(value as Iterable<unknown>, (item) => plain(item, count));
}
