/** @file docs/services.md: its configs are read, and its tables list the formats and the endings of the code. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../config/config.ts';
import { formats } from '../../teachers/services/index.ts';
import { isVectorFile } from '../../teachers/vectors/read-vectors.ts';

const page = readFileSync('docs/services.md', 'utf8');
const [services, vectors] = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml]) => yaml);
const cells = (row: string): string[] => row.split('|').map((cell) => cell.trim().replaceAll('`', ''));
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => cells(line).slice(1));

test.each([...services.trim().split('\n'), vectors])('%s', (yaml) => {
  const config = { data: { path: 'data' }, student: { model: 'model' }, ...parse(yaml) };
  expect(configSchema.safeParse(config).error?.issues ?? []).toEqual([]);
});

test('every format with its paths and the variable of its key', () => {
  const listed = rows
    .filter(([name]) => Object.hasOwn(formats, name))
    .map(([name, , rerank, embed, key]) => [name, rerank, embed, key]);
  expect(listed).toEqual(
    Object.entries(formats).map(([name, f]) => [name, f.rerank?.path ?? '', f.embed?.path ?? '', f.key]),
  );
});

test('every ending of a file of vectors', () => {
  const endings = rows.flatMap(([name]) => (name.startsWith('.') ? name.split(', ') : []));
  expect(endings).toEqual(['.npy', '.safetensors', '.parquet', '.jsonl', '.jsonl.gz', '.ndjson']);
  for (const ending of endings) expect(isVectorFile(`x${ending}`)).toBe(true);
});
