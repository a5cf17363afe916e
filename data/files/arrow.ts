/** @file Rows of Arrow files: streams, as `datasets` keeps them, and files (Feather 2). */
import { createReadStream } from 'node:fs';
import { InputError } from '../../common/errors.ts';
import type { Row } from './row.ts';

/** A record batch at a time. @throws InputError where the file cannot be read */
export async function* readArrow(file: string): AsyncGenerator<Row> {
  let at = 0;
  try {
    const { RecordBatchReader } = await import('apache-arrow');
    const source = createReadStream(file);
    try {
      const reader = await RecordBatchReader.from(source);
      await reader.open();
      for await (const batch of reader) {
        const columns = batch.schema.fields.map((f, i) => [f.name, batch.getChildAt(i)] as const);
        for (let r = 0; r < batch.numRows; r++)
          yield {
            values: Object.fromEntries(columns.map(([name, column]) => [name, plain(column?.get(r))])),
            where: `${file} row ${++at}`,
          };
      }
    } finally {
      source.destroy();
    }
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError({
      code: 'data.unreadable',
      subject: `cannot read ${file} (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
      remedy: 'check that it is a whole Arrow file without compressed buffers, or write it as Parquet',
      cause,
    });
  }
}

/** Lists as arrays, records as objects, everything else as it is. */
function plain(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value;
  // A record can be walked too, and has no length.
  if (!('length' in value) && 'toJSON' in value && typeof value.toJSON === 'function') {
    const fields = Object.entries(value.toJSON() as object);
    return Object.fromEntries(fields.map(([name, own]) => [name, plain(own)]));
  }
  return Symbol.iterator in value ? Array.from(value as Iterable<unknown>, plain) : value;
}
