/**
 * @file Rates of teachers on data/debian, in turn: pairs a second of debian-cross-encoder and texts a second of debian-dual-encoder
 * and minilm-l6, in float32 and in int8. Wall time and CPU time of the process.
 *
 *   npm run bench -- rates [items]
 */
import { join } from 'node:path';
import { openDataset } from '../../data/open.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import { median, round, SHARED } from './peers.ts';

const [items = 512] = process.argv.slice(2).map(Number);
const rounds = Number(process.env.ROUNDS ?? 3);
const data = await openDataset(join(SHARED, 'data/debian'), {});
const documents = Array.from({ length: items }, (_, i) => data.documents.text((i * 37) % data.documents.length));
const pairs = documents.map((document, i) => ({
  queryId: String(i),
  documentId: String(i),
  query: data.queries.text((i * 11) % data.queries.length),
  document,
}));
const folder = (name: string): string => join(SHARED, 'models', name);

interface Measured {
  name: string;
  unit: 'pairs' | 'texts';
  open(dtype: 'fp32' | 'int8'): Promise<Teacher>;
}
const measured: Measured[] = [
  {
    name: 'debian-cross-encoder',
    unit: 'pairs',
    open: (dtype) => crossEncoder(folder('debian-cross-encoder'), { dtype }),
  },
  ...['debian-dual-encoder', 'minilm-l6'].map(
    (name): Measured => ({
      name,
      unit: 'texts',
      open: (dtype) => dualEncoder(folder(name), { dtype, documentTokens: 192 }),
    }),
  ),
];

for (const { name, unit, open } of measured) {
  const figures = {
    fp32: { wall: [] as number[], cpu: [] as number[] },
    int8: { wall: [] as number[], cpu: [] as number[] },
  };
  const teachers = { fp32: await open('fp32'), int8: await open('int8') };
  const notes: string[] = [];
  const work = (teacher: Teacher, n: number): Promise<unknown> =>
    unit === 'pairs'
      ? teacher.score(pairs.slice(0, n), { onProgress: (p) => void (p.note && notes.push(p.note)) })
      : (teacher.embed as NonNullable<Teacher['embed']>)(documents.slice(0, n), 'document', {
          onProgress: (p) => void (p.note && notes.push(p.note)),
        });
  // The first call of the int8 form compares it with float32.
  for (const teacher of Object.values(teachers)) await work(teacher, Math.min(items, 128));
  for (let r = 0; r < rounds; r++)
    for (const dtype of (['fp32', 'int8'] as const).toSorted(() => (r % 2 ? 1 : -1))) {
      const [started, before] = [performance.now(), process.cpuUsage()];
      await work(teachers[dtype], items);
      const { user, system } = process.cpuUsage(before);
      figures[dtype].wall.push((performance.now() - started) / 1000);
      figures[dtype].cpu.push((user + system) / 1e6);
    }
  const rate = (dtype: 'fp32' | 'int8', clock: 'wall' | 'cpu'): number =>
    round(items / median(figures[dtype][clock]), 1);
  console.log(
    JSON.stringify({
      model: name,
      [`${unit}_s_fp32`]: rate('fp32', 'wall'),
      [`${unit}_s_int8`]: rate('int8', 'wall'),
      ratio: round(rate('int8', 'wall') / rate('fp32', 'wall'), 2),
      [`${unit}_cpu_s_fp32`]: rate('fp32', 'cpu'),
      [`${unit}_cpu_s_int8`]: rate('int8', 'cpu'),
      cpu_ratio: round(rate('int8', 'cpu') / rate('fp32', 'cpu'), 2),
      note: notes.at(-1) ?? '',
    }),
  );
  for (const teacher of Object.values(teachers)) await teacher.dispose();
}
