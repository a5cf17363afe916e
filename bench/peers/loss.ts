/**
 * @file `loss.evaluate` called in a loop, compared with the same loss with its gradient in PyTorch on the same arrays, one thread each.
 *
 *   npm run bench -- loss [queries] [candidates] [calls]
 */
import { kl } from '../../losses/kl.ts';
import { compare, type Measured, median, ours, python, round } from './peers.ts';

async function benchLoss(queries: number, candidates: number, calls: number): Promise<Measured> {
  const filled = (at: (k: number) => number) => ({
    dims: [queries, candidates],
    data: Float64Array.from({ length: queries * candidates }, (_, k) => at(k)),
  });
  const arrays = { student: filled((k) => ((k * 37) % 101) / 101), teacher: filled((k) => ((k * 53) % 89) / 10) };
  const loss = kl({ temperature: 1, studentTemperature: 0.05 });
  const started = performance.now();
  let last = await loss.evaluate(arrays);
  const first = performance.now() - started;
  for (let i = 0; i < 50; i++) last = await loss.evaluate(arrays);
  const times: number[] = [];
  for (let i = 0; i < calls; i++) {
    const from = performance.now();
    last = await loss.evaluate(arrays);
    times.push(performance.now() - from);
  }
  return {
    engine: 'onnx-distill',
    queries,
    candidates,
    us_a_call: round(1e3 * median(times), 1),
    first_call_ms: round(first, 1),
    loss: round(last.loss, 9),
  };
}

const [who, ...rest] = process.argv.slice(2);
const [queries = 32, candidates = 16, calls = 2000] = (who === 'ours' ? rest : process.argv.slice(2)).map(Number);
if (who === 'ours') console.log(JSON.stringify(await benchLoss(queries, candidates, calls)));
else
  await compare(
    [ours(import.meta.filename, queries, candidates, calls), python('torch', 'loss.py', queries, candidates, calls)],
    ['us_a_call'],
  );
