/** @file What a dry run says that a run would take: a figure for what can be timed, a reason for what cannot, nothing written. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { renderPlan } from '../../cli/terminal/report.ts';
import { hashParts } from '../../common/files.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { distill, planRun, type StagePlan } from '../../pipelines/distill.ts';
import { documents, jsonl, makeWorld, snapshot, write } from '../cli/world.ts';

let world: string;
beforeAll(async () => {
  world = await makeWorld();
});
const plan = async (...sets: string[]) => {
  const config = readConfig(join(world, 'distill.yaml'), [`output=${world}/out`, `cache=${world}/cache`, ...sets]);
  const stages = await planRun(config, {}, { estimate: true });
  return { config, stages, of: (name: string) => stages.find((s) => s.stage === name)?.estimate };
};
const written = (): string =>
  hashParts(JSON.stringify(Object.entries(snapshot(world)).map(([n, c]) => [n, hashParts(c)])));

test('teacher scores, training and evaluation are estimated, and how is said', async () => {
  const before = written();
  const { stages, of } = await plan('train.steps=100', 'train.batchSize=4', 'train.candidates=4');
  expect(of('teacher scores')).toMatchObject({ how: 'timed on a few pairs here' });
  expect(of('training')?.how).toMatch(/^100 steps as 3 forward passes of 20 texts, timed on a few here; memory for/);
  expect(of('evaluation')?.how).toBe('at most; timed on a few texts here');
  for (const name of ['teacher scores', 'training', 'evaluation']) {
    expect(of(name)?.seconds, name).toBeGreaterThan(0);
    // Node and ONNX Runtime alone take about this much; the models are tiny.
    expect(of(name)?.bytes, name).toBeGreaterThan(300e6);
    expect(of(name)?.bytes, name).toBeLessThan(600e6);
  }
  expect(of('checkpoint')).toBeUndefined();
  expect(written()).toBe(before);
  const text = renderPlan(stages);
  expect(text).toMatch(/^estimates \(about, on this machine as it is now\)$/m);
  expect(text).toMatch(/^training +\S.* (MB|GB) +100 steps/m);
  expect(text).toMatch(/^together +\S.* s$/m);
});

test('ten times the steps take about ten times as long', async () => {
  const few = (await plan('train.steps=10')).of('training')?.seconds as number;
  const many = (await plan('train.steps=1000')).of('training')?.seconds as number;
  // A hundred times the steps, each rate timed by itself on a machine that may be busy.
  expect(many / few).toBeGreaterThan(5);
});

test('where nothing can be timed, the reason stands in place of a figure', async () => {
  const service = await plan('teacher={kind: http, url: "http://127.0.0.1:9", format: tei}');
  expect(service.of('teacher scores')).toEqual({ how: 'no estimate: a service is not asked to be timed' });
  expect(service.of('evaluation')?.how).toMatch(/without the teacher: a service is not asked/);
  const fresh = await plan('student={fresh: {hidden: 16, layers: 1, heads: 2, vocabulary: 100}}');
  expect(fresh.of('training')).toEqual({ how: 'no estimate: the student is yet to be made' });
  const sparse = await plan('student={model: dual, sparse: {}}');
  expect(sparse.of('training')).toEqual({ how: "no estimate: a student of the kind 'sparse' is not timed" });
  expect(renderPlan(fresh.stages)).toMatch(/^together .* without what has no estimate$/m);
});

test('queries that a language model writes: calls and tokens at most, and no time', async () => {
  const set = (more: string) =>
    plan(`generate={kind: chat, url: "http://127.0.0.1:9/v1", model: tiny, count: 60, each: 2, examples: 0${more}}`);
  const whole = await set(', prompt: "{document} {count}"');
  const how = whole.of('written queries')?.how ?? '';
  expect(how).toMatch(/^at most 30 calls, about [\d,]+ tokens; .*; time depends on the endpoint$/);
  // Four characters a token: the texts, the prompt, and replies of two queries of 60 characters.
  const tokens = Number(/about ([\d,]+) tokens/.exec(how)?.[1].replace(',', ''));
  const longest = Math.max(...documents.map((d) => `${d.title} ${d.text}`.length));
  expect(tokens).toBeGreaterThan((30 * (120 + 18)) / 4);
  expect(tokens).toBeLessThanOrEqual((30 * (120 + 18 + longest)) / 4);
  expect((await set(', budget: {calls: 7}')).of('written queries')?.how).toMatch(
    /^at most 7 calls, .* after about 7 of 30 documents;/,
  );
  expect((await set(', budget: {tokens: 500}')).of('written queries')?.how).toMatch(
    /^at most 30 calls, about 500 tokens, which the budget ends after about \d of 30 documents;/,
  );
  expect(renderPlan(whole.stages)).toMatch(/^written queries +- +at most 30 calls/m);
});

test('the rounds of an active run are estimated, with the queries that the teacher may be asked about', async () => {
  const sets = (budget: number) => [
    'pipeline=active',
    `querySelection={ kind: margin, budget: ${budget} }`,
    'train={ epochs: 100, batchSize: 2, candidates: 2, warmupSteps: 1 }',
  ];
  const few = await plan(...sets(4));
  expect(few.of('round-2/teacher scores')?.how).toBe('at most; timed on a few pairs here');
  expect(few.of('round-1/training')?.how).toMatch(/^200 steps as/);
  await expect(planRun(few.config, { signal: AbortSignal.abort() }, { estimate: true })).rejects.toThrow();
});

test('runs inside a run are estimated, those that wait for models of earlier ones as a whole', async () => {
  write(world, {
    'chain.yaml': stringify({
      pipeline: 'chain',
      data: { path: 'data' },
      teacher: { kind: 'cross-encoder', model: 'cross' },
      student: { model: 'dual' },
      train: { provider: 'cpu', threads: 1 },
    }),
  });
  const sets = [`output=${world}/family`, `cache=${world}/cache`];
  const stages = await planRun(readConfig(join(world, 'chain.yaml'), sets), {}, { estimate: true });
  const of = (name: string) => stages.find((s) => s.stage === name)?.estimate;
  for (const name of ['assistant/training', 'assistant/evaluation', 'query', 'static'])
    expect(of(name)?.seconds, `${name}: ${of(name)?.how}`).toBeGreaterThan(0);
  expect(of('query')?.how).toMatch(/^embeddings .*, training .*, evaluation /);
  expect(stages.filter((s) => /no estimate/.test(s.estimate?.how ?? ''))).toEqual([]);
});

test('a run over a thousand documents says first what it will take; one over fewer begins at once', async () => {
  const started = async (count: number): Promise<readonly StagePlan[] | undefined> => {
    const folder = join(world, `data-${count}`);
    write(folder, {
      'corpus.jsonl': jsonl(Array.from({ length: count }, (_, i) => ({ _id: `d${i}`, text: `open file ${i}` }))),
      'queries.jsonl': jsonl([{ _id: 'q', text: 'open' }]),
      'qrels/train.tsv': 'query-id\tcorpus-id\tscore\nq\td1\t1\n',
      'qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq\td1\t1\n',
    });
    const sets = [
      `data.path=${folder}`,
      'data.splits.dev=null',
      `output=${world}/o-${count}`,
      `cache=${world}/c-${count}`,
    ];
    const stop = new AbortController();
    let found: readonly StagePlan[] | undefined;
    const onPlan = (stages: readonly StagePlan[]) => {
      found = stages;
      stop.abort();
    };
    const onProgress = (): void => {
      if (count < 1000) stop.abort();
    };
    await expect(
      distill(readConfig(join(world, 'distill.yaml'), sets), { signal: stop.signal, onProgress }, { onPlan }),
    ).rejects.toThrow();
    return found;
  };
  expect((await started(1000))?.find((s) => s.stage === 'training')?.estimate?.seconds).toBeGreaterThan(0);
  expect(await started(999)).toBeUndefined();
});
