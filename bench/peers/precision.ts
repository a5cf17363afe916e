/**
 * @file Steps on CUDA in each precision: minilm-l6, InfoNCE, AdamW with clipping, one group. Milliseconds per step, the way of the
 * state over the bus included, and the losses of the first ten steps; PyTorch on the same card where $PYTHON has it.
 *
 *   npm run bench -- precision [--provider cuda] [--modes float32,tf32,float16,bfloat16] [--sizes 64x64,576x190] [--calls 4]
 *   npm run bench -- precision --plain         without the forms of gradients that are fast on the device
 *   npm run bench -- precision --profile float16      time per operator of one call of the largest size, each launch waited for;
 *       --provider webgpu --layers 3 --profile float32: of the device's kernels
 *
 * Each mode is a process: TF32 is decided when NVIDIA's libraries are loaded.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { allowTf32, sumHalvesInFloat32 } from '../../engine/runtime/cuda.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { type DualEncoderStepOptions, dualEncoderStep } from '../../training/step/dual-encoder-step.ts';
import type { Precision } from '../../training/step/encoder-graph.ts';
import { absent, median, PYTHON, round, SHARED } from './peers.ts';
import { randomBatch, stepOptions } from './step.ts';

const { values } = parseArgs({
  options: {
    provider: { type: 'string', default: 'cuda' },
    modes: { type: 'string', default: 'float32,tf32,float16,bfloat16' },
    sizes: { type: 'string', default: '64x64,576x190' },
    calls: { type: 'string', default: '4' },
    plain: { type: 'boolean', default: false },
    layers: { type: 'string' },
    mode: { type: 'string' },
    profile: { type: 'string' },
  },
});
const provider = values.provider as NonNullable<SessionOptions['provider']>;
const sizes = values.sizes.split(',').map((s) => s.split('x').map(Number) as [number, number]);
const calls = Number(values.calls);
const RATE = 2e-5;

/** The model of the folder SHARED, or one of its shape with random weights and perhaps of fewer layers. */
async function model(): Promise<DualEncoderStepOptions> {
  const given = join(SHARED, 'models/minilm-l6/onnx/model.onnx');
  if (values.layers === undefined && existsSync(given)) return stepOptions(SHARED);
  const layers = Number(values.layers ?? 6);
  const shape = { vocabularySize: 30522, hidden: 384, layers, heads: 12, intermediate: 1536, maxLength: 512 };
  return {
    encoder: bertGraph(shape, Random.of(0, 'bench')),
    pooling: 'mean',
    normalize: true,
    losses: [{ loss: infoNCE(), weight: 1 }],
  };
}

async function learnerOf(mode: string, extra?: SessionOptions['extra']): Promise<DeviceLearner> {
  allowTf32(mode !== 'float32');
  const precision = (mode === 'tf32' ? 'float32' : mode) as Precision;
  // As a run does.
  if (precision !== 'float32') sumHalvesInFloat32();
  const session = { provider, ...(extra && { extra }) };
  const step = await dualEncoderStep(
    { ...(await model()), groups: 1, precision, ...(values.plain && { forms: 'plain' as const }), session },
    false,
  );
  return DeviceLearner.create(step, session, { clipNorm: 1 });
}

const steps = (learner: DeviceLearner, [sequences, length]: [number, number], count: number, first: number) => {
  const batch = randomBatch(sequences, length);
  return learner.steps(
    async () => [batch],
    first,
    Array.from({ length: count }, () => RATE),
  );
};

async function measure(mode: string): Promise<Record<string, unknown>> {
  const loading = performance.now();
  const learner = await learnerOf(mode);
  const start = new Map([...(await learner.state())].map(([name, t]) => [name, { ...t, data: t.data.slice() }]));
  const result: Record<string, unknown> = {
    engine: 'onnx-distill',
    mode,
    load_s: round((performance.now() - loading) / 1000, 1),
  };
  for (const size of sizes) {
    await learner.restore(start as never, 0);
    const name = size.join('x');
    const losses = await steps(learner, size, 10, 0);
    // The first steps load kernels: how many a call takes is known after the calls that follow them.
    for (let i = 0; i < 2; i++) await steps(learner, size, learner.ahead, 10);
    const times: number[] = [];
    for (let i = 0; i < calls; i++) {
      const started = performance.now();
      // As many as a run makes in one call.
      const made = await steps(learner, size, learner.ahead, 10);
      times.push((performance.now() - started) / made.length);
    }
    result[`${name}_ms`] = round(median(times), 1);
    // What a call costs beside its steps: weights and moments on their way there and back.
    const started = performance.now();
    await steps(learner, size, 1, 10);
    result[`${name}_call_ms`] = round(performance.now() - started - median(times), 0);
    result[`${name}_losses`] = losses.map((s) => round(s.loss, 5));
    result[`${name}_norms`] = losses.map((s) => round(s.gradientNorm, 4));
    const note = losses.find((s) => s.note)?.note;
    if (note) result[`${name}_note`] = note;
  }
  await learner.release();
  return result;
}

interface Event {
  cat: string;
  name: string;
  ts: number;
  dur: number;
  args?: {
    op_name?: string;
    provider?: string;
    /** Of a kernel of WebGPU. */
    shapes?: string;
    input_type_shape?: Record<string, number[]>[];
    output_type_shape?: Record<string, number[]>[];
  };
}

/** Prints time and number of events by key, those that take longest first. */
function sums(events: readonly Event[], key: (e: Event) => string, steps: number, rows: number): void {
  const found = new Map<string, { ms: number; count: number }>();
  for (const e of events) {
    const own = found.get(key(e)) ?? { ms: 0, count: 0 };
    found.set(key(e), { ms: own.ms + e.dur / steps / 1000, count: own.count + 1 / steps });
  }
  for (const [name, { ms, count }] of [...found].sort((a, b) => b[1].ms - a[1].ms).slice(0, rows))
    console.log(`${ms.toFixed(2).padStart(9)} ms ${String(Math.round(count)).padStart(6)}  ${name}`);
}

const shape = (all: Record<string, number[]>[] = []): string =>
  all
    .map((t) =>
      Object.entries(t)
        .map(([type, dims]) => `${type}[${dims}]`)
        .join(),
    )
    .join(' ');
const kernel = ({ name }: Event): string => name.replace(/^.*&/, '');
const kernelWithShapes = (e: Event): string => `${kernel(e)} ${e.args?.shapes}`;
const operator = ({ args }: Event): string => `${args?.op_name} (${args?.provider})`;
const operatorWithShapes = ({ args }: Event): string =>
  `${args?.op_name} ${shape(args?.input_type_shape)} -> ${shape(args?.output_type_shape)}`;

/** Seconds by operator, or by kernel, of one call, from ONNX Runtime's profile. */
async function profile(mode: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'profile-'));
  try {
    const learner = await learnerOf(mode, { enableProfiling: true, profileFilePrefix: join(folder, 'step') });
    const size = sizes[sizes.length - 1];
    // Memory is allocated in the first call.
    await steps(learner, size, 2, 0);
    const onWebGpu = provider === 'webgpu';
    await steps(learner, size, onWebGpu ? 1 : 2, 2);
    await learner.release();
    const file = readdirSync(folder).find((f) => f.endsWith('.json'));
    if (!file) throw new Error(`no profile was written to ${folder}`);
    const all = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Event[];
    const last = all.filter((e) => e.name === 'model_run').at(-1)?.ts ?? 0;
    const mine = all.filter((e) => e.ts >= last);
    const nodes = mine.filter((e) => e.cat === 'Node' && e.name.endsWith('_kernel_time') && e.args?.op_name !== 'Loop');
    // WebGPU times its kernels itself.
    const { events, name, whole } = onWebGpu
      ? { events: mine.filter((e) => e.cat === 'Api'), name: kernel, whole: kernelWithShapes }
      : { events: nodes, name: operator, whole: operatorWithShapes };
    // A step that is repeated with a smaller loss scale is one more; a call on WebGPU is one step.
    const runs = new Map<string, number>();
    for (const e of events) runs.set(e.name, (runs.get(e.name) ?? 0) + 1);
    const made = onWebGpu ? 1 : Math.max(...runs.values());
    const total = events.reduce((n, e) => n + e.dur, 0);
    console.log(
      `${mode}, ${size.join(' x ')}, ${made} steps: ${round(total / made / 1000, 1)} ms a step in ${Math.round(events.length / made)} ${onWebGpu ? 'kernels' : 'operators'}`,
    );
    sums(events, name, made, 25);
    console.log('by shapes:');
    sums(events, whole, made, 40);
    if (!onWebGpu) return;
    console.log('on the CPU:');
    sums(
      nodes.filter((e) => e.args?.provider === 'CPUExecutionProvider'),
      operator,
      made,
      20,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** This file again, for one mode. */
function child(mode: string, profiled: boolean): void {
  const given = [
    '--provider',
    provider,
    '--sizes',
    values.sizes,
    '--calls',
    values.calls,
    ...(values.plain ? ['--plain'] : []),
    ...(values.layers === undefined ? [] : ['--layers', values.layers]),
    '--mode',
    mode,
  ];
  const env = { ...process.env, ...(profiled && { CUDA_LAUNCH_BLOCKING: '1' }) };
  const { status } = spawnSync(
    process.execPath,
    [import.meta.filename, ...given, ...(profiled ? ['--profile', mode] : [])],
    { stdio: 'inherit', env },
  );
  if (status) console.log(JSON.stringify({ engine: 'onnx-distill', mode, failed: status }));
}

if (values.mode && values.profile) await profile(values.mode);
else if (values.mode) console.log(JSON.stringify(await measure(values.mode)));
else if (values.profile) child(values.profile, true);
else {
  for (const mode of values.modes.split(',')) child(mode, false);
  const without = absent();
  if (without) console.error(`skipped: PyTorch (${without})`);
  else
    spawnSync(PYTHON, [join(import.meta.dirname, '../../../bench/peers/precision.py'), values.sizes, values.calls], {
      stdio: 'inherit',
    });
}
