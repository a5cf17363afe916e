/** @file Half precision is refused before a run reads anything, where training computes on another provider than CUDA. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../config/parse.ts';
import { openRun } from '../../run/context.ts';

test('a run that would train in half precision on the CPU ends before its data are read', async () => {
  const config = parseConfig({
    data: { path: 'nowhere' },
    student: { model: 'nowhere' },
    losses: [{ kind: 'info-nce' }],
    train: { precision: 'float16' },
  });
  // As `auto` resolves where there is no CUDA.
  const onCpu = { ...config, train: { ...config.train, provider: 'cpu' as const } };
  for (const dry of [true, false])
    await expect(openRun(onCpu, {}, async () => {}, dry)).rejects.toMatchObject({
      code: 'train.precision',
      message: expect.stringContaining('training computes on cpu here'),
    });
});

test.each([
  ['a teacher', { teacher: { kind: 'cross-encoder', model: 'nowhere/teacher', dtype: 'fp16' } }, 'nowhere/teacher'],
  ['an embedder', { embedder: { model: 'nowhere/embedder', dtype: 'fp16' } }, 'nowhere/embedder'],
] as const)('%s in fp16 is refused there too, before the data are read', async (_, models, named) => {
  const config = parseConfig({
    data: { path: 'nowhere' },
    student: { model: 'nowhere' },
    losses: [{ kind: 'info-nce' }],
    ...models,
  });
  const onCpu = { ...config, train: { ...config.train, provider: 'cpu' as const } };
  for (const dry of [true, false])
    await expect(openRun(onCpu, {}, async () => {}, dry)).rejects.toMatchObject({
      code: 'teacher.fp16',
      message: expect.stringContaining(`'dtype: fp16' is for cuda, and ${named} computes on cpu here`),
    });
});
