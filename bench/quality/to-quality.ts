/**
 * @file Seconds from a warm cache to a share of the teacher's quality on data/debian, compared with sentence-transformers.
 *
 *   npm run bench -- to-quality [query-tower|static|assistant] [share]     query-tower and 0.97 by default
 *
 * The rule is the same for all: a ladder of numbers of steps, each a training of its own; the first whose weights reach the share
 * of the teacher's nDCG@10 on dev is timed, ROUNDS times in turn. Figures on test are printed and choose nothing. The teacher is the
 * dual-encoder whose documents are searched (99.8 % of the cross-encoder). The clock runs from reading the data to the last step;
 * what the teacher gives is made before, and imports and evaluation are not counted. $FOLDER keeps the material between calls;
 * PROVIDER=cuda trains both sides on a card.
 */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { absent, type Contender, type Measured, median, ours, PYTHON, python, round, run } from '../peers/peers.ts';
import { type Embedded, measure, prepare, qualityOf, teacherQuality } from './measure.ts';
import { ladders, type Tower, towers } from './recipes.ts';

const folder = process.env.FOLDER ?? join(tmpdir(), 'onnx-distill-to-quality');
const rounds = Number(process.env.ROUNDS ?? 3);

/** A side of the comparison, started with a number of steps. */
interface Side {
  name: string;
  with(steps: number): Contender;
}

const sidesOf = (tower: Tower): Side[] => [
  { name: 'onnx-distill', with: (steps) => ours(import.meta.filename, tower, steps) },
  ...['fp32', 'bf16'].map((dtype) => ({
    name: `sentence-transformers ${dtype}`,
    with: (steps: number) =>
      python(
        `sentence-transformers ${dtype}`,
        join(import.meta.dirname, '../../../bench/quality/to_quality.py'),
        tower,
        dtype,
        steps,
        folder,
      ),
  })),
];

/** A measured training with its quality. */
type Reached = Measured & { dev: number; test: number };

async function once(side: Side, steps: number): Promise<Reached> {
  const { queries, documents, ...measured } = await run(side.with(steps));
  const { dev, test } = await qualityOf(folder, { queries, documents } as unknown as Embedded);
  const found = { ...measured, side: side.name, dev: round(dev), test: round(test) };
  console.log(JSON.stringify(found));
  return found as unknown as Reached;
}

/** Climbs the ladder. @returns the first training that reaches the aim on dev */
async function climb(side: Side, ladder: readonly number[], aim: number): Promise<Reached | undefined> {
  for (const steps of ladder) {
    const found = await once(side, steps);
    if (found.dev >= aim) return found;
  }
  console.log(JSON.stringify({ side: side.name, reached: 'never', steps: ladder.at(-1) as number }));
  return undefined;
}

async function compareTower(tower: Tower, share: number): Promise<void> {
  await prepare(tower, folder);
  const teacher = await teacherQuality(folder);
  const aim = share * teacher.dev;
  console.log(
    JSON.stringify({ teacher_dev: round(teacher.dev), teacher_test: round(teacher.test), aim: round(aim), share }),
  );
  const without = absent('torch, datasets, sentence_transformers');
  if (without) console.error(`skipped: sentence-transformers (${without})`);
  const sides = sidesOf(tower).filter((s) => !without || s.with(1).command !== PYTHON);
  const reached: { side: Side; steps: number; runs: Reached[] }[] = [];
  for (const side of sides) {
    const found = await climb(side, ladders[tower], aim);
    if (found) reached.push({ side, steps: Number(found.steps), runs: [found] });
  }
  for (let r = 1; r < rounds; r++)
    for (const { side, steps, runs } of r % 2 ? [...reached].reverse() : reached) runs.push(await once(side, steps));
  const figure = (runs: readonly Reached[], name: string): number => median(runs.map((m) => Number(m[name])));
  const [own] = reached;
  for (const { side, steps, runs } of reached)
    console.log(
      JSON.stringify({
        side: side.name,
        steps,
        seconds: figure(runs, 'seconds'),
        cpu_seconds: figure(runs, 'cpu_seconds'),
        test: figure(runs, 'test'),
        of_teacher_on_test: round(figure(runs, 'test') / teacher.test, 3),
        wall_ratio: round(figure(own.runs, 'seconds') / figure(runs, 'seconds'), 3),
        cpu_ratio: round(figure(own.runs, 'cpu_seconds') / figure(runs, 'cpu_seconds'), 3),
      }),
    );
}

const [first = 'query-tower', second, third] = process.argv.slice(2);
if (first === 'ours') console.log(JSON.stringify(await measure(second as Tower, Number(third), folder)));
else if (first === 'prepare') await prepare((second ?? 'static') as Tower, folder);
else if (towers.includes(first as Tower)) await compareTower(first as Tower, Number(second ?? 0.97));
else {
  console.error(`usage: npm run bench -- to-quality [${towers.join('|')}] [share]`);
  process.exitCode = 2;
}
