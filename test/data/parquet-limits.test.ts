/** @file Headers of Parquet pages, written by hand: what they claim is refused before memory is taken for it. */
import { readFileSync } from 'node:fs';
import { type AsyncBuffer, parquetMetadata, type RowGroup } from 'hyparquet';
import { expect, test } from 'vitest';
import { checkRowGroup } from '../../data/files/parquet-limits.ts';

/** A number as Thrift's compact protocol has it. */
function zigzag(n: number): number[] {
  const out: number[] = [];
  for (let v = 2 * n; ; v = Math.floor(v / 128)) {
    if (v < 128) return [...out, v];
    out.push((v % 128) + 128);
  }
}

/** A data page: type, size unpacked, size packed, and a struct whose first field counts values. */
const page = (unpacked: number, packed: number, values: number): number[] => [
  ...[0x15, 0, 0x15, ...zigzag(unpacked), 0x15, ...zigzag(packed)],
  ...[0x2c, 0x15, ...zigzag(values), 0, 0],
  ...Array<number>(Math.min(packed, 64)).fill(0),
];

const check = (bytes: number[], claims: { rows?: number; values?: number; size?: number } = {}): Promise<void> => {
  const { rows = 10, values = 10, size = bytes.length } = claims;
  const data = Uint8Array.from(bytes);
  const file: AsyncBuffer = { byteLength: data.length, slice: (from, to) => data.slice(from, to).buffer };
  const meta_data = { data_page_offset: 0n, total_compressed_size: BigInt(size), num_values: BigInt(values) };
  return checkRowGroup(file, { num_rows: BigInt(rows), columns: [{ meta_data }] } as unknown as RowGroup);
};

test('pages that claim what they hold pass', async () => {
  await check([...page(40, 20, 5), ...page(40, 20, 5)]);
  const whole = new Uint8Array(readFileSync('test/fixtures/rows.parquet'));
  const file: AsyncBuffer = { byteLength: whole.length, slice: (from, to) => whole.slice(from, to).buffer };
  for (const group of parquetMetadata(whole.buffer).row_groups) await checkRowGroup(file, group);
});

test.each([
  ['bytes of a page', () => check(page(2 ** 30, 20, 5)), /a page claims to unpack to 1073741824 bytes/],
  ['values of a page', () => check(page(40, 20, 2 ** 31 - 1)), /a page claims 2147483647 values/],
  [
    'packed bytes beyond the column',
    () => check(page(40, 2000, 5)),
    /a page claims 2000 bytes and the column has 64 more/,
  ],
  [
    'many pages',
    () =>
      check(
        Array(5)
          .fill(page(2 ** 28, 4, 5))
          .flat(),
      ),
    /the pages of a column claim 25 values in 1342177280 bytes/,
  ],
  ['rows of a group', () => check(page(40, 20, 5), { rows: 2 ** 40 }), /a row group claims 1099511627776 rows/],
  ['values of a column', () => check(page(40, 20, 5), { values: 2 ** 40 }), /a column claims 1099511627776 values/],
  ['a column beyond the file', () => check(page(40, 20, 5), { size: 10_000 }), /a column claims bytes 0 to 10000 of/],
  ['structs without end', () => check(Array(1000).fill(0x1c)), /nested too deep/],
  ['a number without end', () => check([0x15, ...Array(100).fill(0xff)]), /does not end/],
  ['a list longer than the file', () => check([0x19, 0xf5, ...zigzag(2 ** 40), 0]), /ends early/],
])('%s', async (_, work, message) => {
  await expect(work()).rejects.toThrow(message);
});
