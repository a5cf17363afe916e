/**
 * @file A training step on a device compared with two CPU threads, alternating: minilm-l6 with AdamW, optimizer included.
 *
 *   npm run bench -- device [sequences] [length] [steps] [--provider webgpu] [--threads 2] [--dropout 0.1] [--call 1]
 *
 * --call is how many steps the device makes in one call: 32, say, for cuda.
 */
import { parseArgs } from 'node:util';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { dualEncoderOnHost, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import { median, round, SHARED } from './peers.ts';
import { randomBatch, stepOptions } from './step.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    provider: { type: 'string', default: 'webgpu' },
    threads: { type: 'string', default: '2' },
    dropout: { type: 'string', default: '0' },
    call: { type: 'string', default: '1' },
  },
});
const [sequences = 64, length = 64, steps = 40] = positionals.map(Number);
const provider = values.provider as 'webgpu' | 'cuda';
const options = { ...(await stepOptions(SHARED)), dropout: Number(values.dropout) || undefined };
const batch = randomBatch(sequences, length);
const host = new HostLearner(await dualEncoderOnHost({ ...options, session: { threads: Number(values.threads) } }));
const device = await DeviceLearner.create(await dualEncoderStep({ ...options, groups: 1, session: { provider } }), {
  provider,
});
const times = { host: [] as number[], device: [] as number[] };
for (let i = 0; i < steps; i++) {
  for (const [name, learner] of [
    ['host', host],
    ['device', device],
  ] as const) {
    // One step on the host per several on the device.
    if (name === 'host' && i % 8) continue;
    const call = name === 'device' ? Number(values.call) : 1;
    const rates = Array.from({ length: call }, () => 2e-5);
    const started = performance.now();
    if (learner === device) await device.steps(async () => [batch], i * call, rates);
    else await learner.step([batch], i, 2e-5);
    times[name].push((performance.now() - started) / 1000 / call);
  }
}
// The first steps allocate memory.
const [one, other] = [median(times.host.slice(1)), median(times.device.slice(3))];
console.log(
  JSON.stringify({
    provider,
    sequences,
    length,
    dropout: Number(values.dropout),
    device_step_s: round(other),
    host_step_s: round(one),
    host_threads: Number(values.threads),
    times_faster: round(one / other),
  }),
);
await host.release();
await device.release();
