/** @file Runs any optimizer on the host: its rule as a small graph over slices of the parameters, or over whole matrices. */
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Session, type SessionOptions } from '../../engine/runtime/session.ts';
import { WEIGHT_DECAY } from '../optimizers/adamw.ts';
import {
  decays,
  type Numbers,
  type Optimizer,
  type OptimizerSettings,
  type RuleInputs,
} from '../optimizers/optimizer.ts';
import type { Parameter } from '../step/training-step.ts';
import { adamWKernel } from './adamw-wasm.ts';
import { clipScale, Gradients, type Source } from './gradients.ts';

/** An optimizer with its state, over the parameters of a host step. */
export interface HostOptimizer {
  /** Updates made so far; set after state was restored. */
  steps: number;
  /** State arrays by parameter name and array name. */
  readonly state: ReadonlyMap<string, Readonly<Record<string, Float32Array>>>;
  /** Scalars carried from step to step. */
  readonly numbers: Numbers;
  /**
   * Applies the gradients that the parameters hold. If their norm is non-finite, nothing changes.
   * @returns their global norm before clipping
   */
  step(learningRate: number): number | Promise<number>;
  release(): Promise<void>;
}

/** Numbers per run of an elementwise rule: small enough for a core's cache, large enough to outweigh the overhead of a run. */
const SLICE = 32_768;

/** Scalars of a rule that reads norms. */
const [WEIGHT_NORM, GRADIENT_NORM] = ['weight norm', 'gradient norm'];

/** Inputs of a rule that reads products. */
const [X, BEFORE] = ['multiplied', 'product'];

/** The rule for one kind of parameter, loaded. */
interface Loaded {
  session: Session;
  factors: readonly string[];
}

export class RuleHost implements HostOptimizer {
  steps = 0;
  readonly numbers: Numbers = {};
  readonly state: ReadonlyMap<string, Record<string, Float32Array>>;
  private readonly rule: Optimizer;
  private readonly parameters: readonly Parameter[];
  private readonly settings: OptimizerSettings;
  private readonly gradients = new Gradients(adamWKernel());
  private readonly session: SessionOptions | undefined;
  private readonly loaded = new Map<string, Promise<Loaded>>();
  private readonly scratch = new Map<string, Float32Array>();

  constructor(
    rule: Optimizer,
    parameters: readonly Parameter[],
    settings: OptimizerSettings = {},
    session?: SessionOptions,
  ) {
    this.rule = rule;
    this.parameters = parameters;
    this.settings = settings;
    this.session = session;
    this.state = new Map(
      parameters.map((p) => [
        p.name,
        Object.fromEntries(
          Object.entries(rule.state(p)).map(([name, start]) => [
            name,
            start === 'weights' ? p.data.slice() : new Float32Array(p.data.length),
          ]),
        ),
      ]),
    );
  }

  async step(learningRate: number): Promise<number> {
    const { sources, norm } = this.gradients.take(this.parameters);
    if (!Number.isFinite(norm)) return norm;
    const { weightDecay = WEIGHT_DECAY } = this.settings;
    this.steps++;
    const scale = clipScale(norm, this.settings.clipNorm);
    const factors = {
      ...this.rule.factors(this.steps, learningRate, this.numbers),
      ...(this.rule.readsNorms && { [WEIGHT_NORM]: normOf(this.parameters), [GRADIENT_NORM]: norm * scale }),
      scale,
    };
    for (const [i, p] of this.parameters.entries()) {
      const own = decays(p, this.settings)
        ? { keep: 1 - learningRate * weightDecay, decay: weightDecay }
        : { keep: 1, decay: 0 };
      await this.update(p, this.denseOf(p, sources[i]), { ...factors, ...own });
    }
    return norm;
  }

  async release(): Promise<void> {
    for (const one of this.loaded.values()) await (await one).session.release();
    this.loaded.clear();
  }

  private async update(p: Parameter, gradient: Float32Array, factors: Numbers): Promise<void> {
    const whole = !this.rule.elementwise(p);
    const { session, factors: names } = await this.load(p, whole);
    const state = this.state.get(p.name) as Record<string, Float32Array>;
    const arrays: Record<string, Float32Array> = { weights: p.data, ...state };
    const scalars = Object.fromEntries(names.map((name) => [name, float([], Float32Array.of(factors[name]))]));
    const size = whole ? p.data.length : SLICE;
    const given =
      whole && p.multiplied
        ? { [X]: p.multiplied.x, ...(p.multiplied.before && { [BEFORE]: p.multiplied.before }) }
        : {};
    for (let from = 0; from < p.data.length; from += size) {
      const to = Math.min(p.data.length, from + size);
      const dims = whole ? p.dims : [to - from];
      const feeds: Record<string, Tensor> = {
        ...scalars,
        ...given,
        gradient: float(dims, gradient.subarray(from, to)),
      };
      // A rule may read an array after writing it: results go to separate arrays first.
      const into: Record<string, Tensor> = {};
      for (const [name, data] of Object.entries(arrays)) {
        feeds[name] = float(dims, data.subarray(from, to));
        into[`${name}.next`] = float(dims, this.room(name, to - from));
      }
      await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])), into);
      for (const [name, data] of Object.entries(arrays)) data.set(into[`${name}.next`].data as Float32Array, from);
    }
  }

  private room(name: string, size: number): Float32Array {
    const own = this.scratch.get(name);
    if (own && own.length >= size) return own.subarray(0, size);
    this.scratch.set(name, new Float32Array(size));
    return this.room(name, size);
  }

  /** Expands a table's gradient rows to a dense table. */
  private denseOf(p: Parameter, { values, slots }: Source): Float32Array {
    if (!slots) return values;
    const width = p.dims[1];
    const dense = this.room('gradient', p.data.length).fill(0);
    for (const [row, slot] of slots.entries())
      if (slot >= 0) dense.set(values.subarray(slot * width, (slot + 1) * width), row * width);
    return dense;
  }

  private load(p: Parameter, whole: boolean): Promise<Loaded> {
    const key = whole
      ? `${p.dims.join(' ')} ${JSON.stringify(p.product)}`
      : `slices of ${Object.keys(this.rule.state(p)).join(' ')}`;
    let own = this.loaded.get(key);
    if (!own) {
      // Slices are small and many: several threads cost more than they save.
      own = loadRule(this.rule, p, whole, whole ? this.session : { threads: 1 });
      this.loaded.set(key, own);
    }
    return own;
  }
}

async function loadRule(rule: Optimizer, p: Parameter, whole: boolean, session?: SessionOptions): Promise<Loaded> {
  const graph = new Graph(20);
  const dims = whole ? p.dims : ['n'];
  const input = (name: string, of: readonly (number | string)[] = []): Expr =>
    new Expr(graph, graph.input(name, 'float32', of));
  const names = Object.keys(rule.factors(1, 1, {}));
  const inputs: RuleInputs = {
    weights: input('weights', dims),
    gradient: input('gradient', dims).mul(input('scale')),
    state: Object.fromEntries(Object.keys(rule.state(p)).map((name) => [name, input(name, dims)])),
    factors: Object.fromEntries(names.map((name) => [name, input(name)])),
    keep: input('keep'),
    decay: input('decay'),
    ...(rule.readsNorms && { norms: { weights: input(WEIGHT_NORM), gradient: input(GRADIENT_NORM) } }),
  };
  if (rule.readsProducts && whole && p.product) {
    const { turned, link } = p.product;
    const [ins, outs] = turned ? [p.dims[1], p.dims[0]] : p.dims;
    inputs.product = { x: input(X, ['tokens', ins]), ...(link && { before: input(BEFORE, ['tokens', outs]) }) };
  }
  const { weights, state } = rule.update(p, inputs);
  for (const [name, e] of Object.entries({ weights, ...state })) graph.output(e.value, `${name}.next`);
  graph.dropUnused();
  return {
    // Elementwise arithmetic in the given order: fused or reassociated it would differ between machines.
    session: await Session.load(graph, { ...session, optimize: 'basic' }, `the optimizer ${rule.name}`),
    factors: ['scale', 'keep', 'decay', ...names, ...(rule.readsNorms ? [WEIGHT_NORM, GRADIENT_NORM] : [])],
  };
}

/** Norm of all weights. */
function normOf(parameters: readonly Parameter[]): number {
  let sum = 0;
  for (const { data } of parameters) for (let i = 0; i < data.length; i++) sum += data[i] * data[i];
  return Math.sqrt(sum);
}

const float = (dims: readonly number[], data: Float32Array): Tensor => ({ dtype: 'float32', dims, data });
