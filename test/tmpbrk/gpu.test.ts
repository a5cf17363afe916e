import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bertGraph } from '../../models/bert.ts';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';
import { architectureSchema } from '../../students/architectures/index.ts';
import { loadStudent } from '../../students/encoder-student.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { cases } from '../students/architectures/cases.ts';
import { batchOf, tinyStep } from '../training/tiny.ts';
const shape = { hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 64, vocabulary: 300 };
const texts = ['red lamp from the kitchen', 'guitar', 'the blue tent is still in good order'];
async function compare(name: string, over: object, options: object, how: object = {}, n = 6) {
  const made = [];
  for (const provider of ['cpu', 'webgpu'] as const) {
    const opts = { ...tinyStep(), encoder: bertGraph({ vocabularySize: 300, hidden: 16, layers: 2, heads: 2, intermediate: 32, maxLength: 64 }, Random.of(3, 'w')), session: { provider, threads: 1 }, ...over };
    const learner = await DeviceLearner.create(await dualEncoderStep(opts as never, false), { provider, threads: 1 }, options, how);
    const steps = [];
    for (let k = 0; k < 3; k++) {
      const small = (x: any) => { if ((over as any).small) for (const t of [x.queries, ...x.documents]) t.ids.forEach((v: bigint, i: number) => { t.ids[i] = v % 30n; }); return x; }; const b = (how as any).accumulates ? [batchOf(n, k), batchOf(n - 1, k + 10)] : [batchOf(n, k)];
      const { loss, gradientNorm } = await learner.step(b.map(small), k, 1e-2);
      steps.push([loss, gradientNorm]);
    }
    made.push({ steps, weights: new Map([...(await learner.weights())].map(([k, t]) => [k, Float32Array.from(t.data as Float32Array)])) });
    await learner.release();
  }
  const [a, b] = made;
  let worst = ''; let most = 0;
  for (const [name, d] of a.weights) { if (name.includes('key.bias')) continue; d.forEach((x, i) => { const e = Math.abs(x - b.weights.get(name)![i]); if (!(e <= most)) { most = e; worst = name; } }); }
  console.log(name, JSON.stringify(a.steps), JSON.stringify(b.steps), worst, most);
  for (let k = 0; k < 3; k++) { expect(b.steps[k][0]).toBeCloseTo(a.steps[k][0], 3); expect(b.steps[k][1] / a.steps[k][1]).toBeCloseTo(1, 2); }
}
const adamw = { weightDecay: 0.1, clipNorm: 1 };
const which = process.env.WHICH ?? 'base';
if (which === 'base') {
  test('dual', () => compare('dual', {}, adamw));
  test('dual odd', () => compare('dual5', {}, adamw, {}, 5));
  test('accumulates', () => compare('acc', {}, adamw, { accumulates: true }));
  test('freeze', () => compare('freeze', { freeze: ['embeddings'] }, adamw));
  test('cls', () => compare('cls', { pooling: 'cls' }, adamw));
  test('groups1', () => compare('groups1', { groups: 1 }, adamw));
}
if (which === 'opt') for (const optimizer of (process.env.OPTS ?? 'muon').split(',')) test(optimizer, () => compare(optimizer, { products: false }, { ...adamw, optimizer } as never));
if (which === 'arch') for (const [kind, all] of Object.entries(cases)) for (const [i, c] of all.entries()) {
  if (process.env.KIND && !process.env.KIND.split(',').includes(kind)) continue;
  if (!process.env.ALL && i > 0) continue;
  test(`${kind} ${JSON.stringify(c.options)}`, async () => {
    const folder = join(mkdtempSync(join(tmpdir(), 'arch-')), 'm');
    await freshModel(folder, { length: 3, text: (i) => texts[i] }, { ...shape, seed: 1, vocabulary: 300 } as never);
    const student = await loadStudent(folder, { architecture: architectureSchema.parse({ kind, ...c.options }) });
    const V = student.graph.constants.find((v) => v.name.includes('word_embeddings'))?.constant?.dims[0];
    const clip = (b: any) => b;
    void clip; void V;
    await compare(kind + i, { small: true, encoder: student.graph, pooling: student.pooling ?? 'mean' }, adamw);
  });
}
