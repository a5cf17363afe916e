/** @file A teacher that ranks dev no better than the encoder as it was: said, and where labels teach its scores count for nothing. */
import { expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { chainOptions } from '../../config/recipes/chain-recipes.ts';
import { effortOf } from '../../config/recipes/effort.ts';
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
async function losses(teacher: number, onWeakTeacher: 'warn' | 'labels', kinds = both, generated: string[] = []) {
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
    data: { documents: given({}), dev: given({ generated }) },
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

test('on generated dev queries a chain keeps a weak teacher, which is said; an option that is set counts', async () => {
  const train = (generatedDev: boolean, set: object = {}) => {
    const chain = { assistant: { train: set } };
    const given = {
      data: { path: 'd' },
      teacher: { kind: 'cross-encoder', model: 't' },
      student: { model: 's' },
      chain,
    };
    const data = {
      queries: 9,
      labelled: true,
      generatedDev,
      generatedTrain: generatedDev,
      listed: false,
      effort: effortOf('small', 40),
    };
    const options = chainOptions(parseConfig({ pipeline: 'chain', ...given } as ConfigInput), 'assistant', data);
    return parseConfig(options as ConfigInput).train.onWeakTeacher;
  };
  expect([train(false), train(true), train(true, { onWeakTeacher: 'labels' })]).toEqual(['labels', 'warn', 'labels']);
  const kept = await losses(0.6, 'warn', both, ['dev']);
  expect(kept.weights).toEqual([1, 2]);
  expect(kept.told).toMatch(/of dev, which are generated;.* no evidence against a teacher, which is kept: judge/);
  const set = await losses(0.6, 'labels', both, ['dev']);
  expect(set.weights).toEqual([1, 0]);
  expect(set.told).toMatch(/which are generated;.*Here labels alone teach$/);
});
