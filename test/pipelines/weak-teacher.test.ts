/** @file A teacher that ranks dev no better than the encoder as it was: said, and where labels teach its scores count for nothing. */
import { expect, test } from 'vitest';
import { parseConfig } from '../../config/parse.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { kl } from '../../losses/kl.ts';
import { measureTeacherOnDev } from '../../pipelines/fit/teacher-on-dev.ts';
import type { RunContext } from '../../run/context.ts';
import { given } from '../../run/stages/stage.ts';
import type { Student } from '../../students/student.ts';

const both = [
  { loss: infoNCE(), weight: 1 },
  { loss: kl(), weight: 2 },
];

/** A run in which the teacher has this nDCG@10 where the encoder as it was has 0.7. */
async function losses(teacher: number, onWeakTeacher: 'warn' | 'labels', kinds = both) {
  const told: string[] = [];
  const config = parseConfig({
    data: { path: 'd' },
    teacher: { kind: 'cross-encoder', model: 't' },
    student: { model: 's' },
    train: { onWeakTeacher, evaluateEvery: 10 },
  });
  const run = {
    config,
    teacher: given({}),
    needs: new Set(kinds.flatMap(({ loss }) => loss.needs)),
    losses: given(kinds),
    data: { documents: given({}), dev: given({}) },
    stage: async () => given({ teacher, encoder: 0.7, bm25: Number.NaN, queries: 50 }, { 'the teacher on dev': 'x' }),
    note: (text: string) => void told.push(text),
    warn: (_: string, text: string) => void told.push(text),
  } as unknown as RunContext;
  const result = await measureTeacherOnDev(run, given({} as Student));
  return { weights: (await result.value()).map((l) => l.weight), told: told.join(), fingerprint: result.fingerprint };
}

test('a better teacher teaches', async () => {
  const { weights, told } = await losses(0.8, 'labels');
  expect(weights).toEqual([1, 2]);
  expect(told).toContain('the teacher ranks better than the encoder as it was: nDCG@10 0.8000 compared with 0.7000');
});

test('a weak one counts for nothing where labels teach too, and that is said', async () => {
  const { weights, told, fingerprint } = await losses(0.6, 'labels');
  expect(weights).toEqual([1, 0]);
  expect(told).toMatch(
    /^The teacher ranks no better than the encoder as it was: nDCG@10 0\.6000 compared with 0\.7000/,
  );
  expect(told).toMatch(/Here labels alone teach$/);
  expect(fingerprint).toHaveProperty(['the teacher on dev']);
});

test('it still teaches where nothing else does, and where the options ask for a warning alone', async () => {
  expect((await losses(0.6, 'labels', both.slice(1))).weights).toEqual([2]);
  const { weights, told } = await losses(0.6, 'warn');
  expect(weights).toEqual([1, 2]);
  expect(told).not.toContain('labels alone teach');
});
