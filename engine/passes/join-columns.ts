/** @file Sums of many matrices' columns, put together before their last steps. */
import { concatenated, constant, Expr } from '../expressions/expr.ts';
import type { Node, Value } from '../graph/ir.ts';

/** How a vector was made from a value whose last axis is the vector's: by steps that act on each column alone. */
interface Made {
  /** Equal for vectors made alike; the number of columns does not count. */
  key: string;
  /** The same steps for several values side by side. */
  join(values: readonly Made[]): Expr;
  /** What the steps begin with: the value itself, or what the last step reads. */
  inner: readonly Made[];
  value: Expr;
}

/**
 * Vectors [w1], [w2], .. one after the other. Those next to each other that end with the same small steps (a sum over partial sums, a
 * cast, a sum over groups) share them: a device launches each step once and not once a vector.
 * @param widths w1, w2, ..
 */
export function joinColumns(all: readonly Expr[], widths: readonly number[]): Expr {
  const vectors = all.map((value, i) => {
    const { of, by } = factored(value);
    return { value, made: step(of) ?? whole(of), by, width: widths[i] };
  });
  const parts = runsOf(vectors, ({ made }) => made.key).map((run) => {
    if (run.length < 2) return run[0].value;
    const own = run.map(({ made }) => made);
    const joined = own[0].join(own);
    if (run.every(({ by }) => by === 1)) return joined;
    const factors = run.flatMap(({ by, width }) => Array<number>(width).fill(by));
    return joined.mul(constant(joined.graph, joined.graph.float, [factors.length], factors));
  });
  return concatenated(parts, -1);
}

/** A vector as another one times a number, where it is made so. */
function factored(value: Expr): { of: Expr; by: number } {
  const node = value.value.producer;
  const [a, b] = node?.inputs ?? [];
  if (node?.op !== 'Mul' || node.domain !== '' || !a || b?.constant?.dims.length !== 0) return { of: value, by: 1 };
  return { of: new Expr(value.graph, a), by: Number(b.constant.data[0]) };
}

/** Neighbours of equal keys. */
export function runsOf<T>(all: readonly T[], key: (one: T) => unknown): T[][] {
  const runs: T[][] = [];
  for (const [i, one] of all.entries()) {
    if (i && key(one) === key(all[i - 1])) runs[runs.length - 1].push(one);
    else runs.push([one]);
  }
  return runs;
}

/** A value whose steps are not looked into. */
const whole = (value: Expr, key = 'vector'): Made => ({
  key,
  value,
  inner: [],
  join: (values) =>
    concatenated(
      values.map((v) => v.value),
      -1,
    ),
});

/** The last step of a partial sum, or undefined for anything else. */
function step(value: Expr): Made | undefined {
  const node = value.value.producer;
  if (node?.domain !== '') return undefined;
  const { graph } = value;
  const [a, b] = node.inputs.map((v) => v && new Expr(graph, v));
  const after = (
    key: string,
    reads: readonly (Expr | null | undefined)[],
    apply: (joined: Expr[], width: number) => Expr,
  ) => {
    const inner = reads.map((e) => e && step(e));
    if (!inner.length || !inner.every((m): m is Made => Boolean(m))) return undefined;
    return {
      key: `${key}(${inner.map((m) => m.key)})`,
      value,
      inner,
      join: (values: readonly Made[]) =>
        apply(
          inner.map((m, i) => m.join(values.map((v) => v.inner[i]))),
          values.reduce((w, v) => w + (widthOf(v.value) ?? 0), 0),
        ),
    };
  };
  switch (node.op) {
    case 'MatMul':
      return isOnes(node.inputs[0]) ? whole(value, `${node.inputs[0]?.name} x`) : undefined;
    case 'Gemm':
      if (!isRowOfOnes(node.inputs[0]) || node.inputs.length > 2 || node.attributes.size) return undefined;
      return after(`${node.inputs[0]?.name} gemm`, [b], ([rows]) => (a as Expr).op('Gemm', [rows]));
    case 'ReduceSum': {
      const axes = constantOf(node, 1);
      if (node.int('keepdims', 1)) {
        const leading = value.value.dims?.slice(0, -1);
        return leading?.every((d) => d === 1) ? whole(value, `row of ${leading.length + 1} dimensions`) : undefined;
      }
      if (!axes || axes.some((axis, i) => axis !== i)) return undefined;
      return after(`sum over ${axes}`, [a], ([x]) => x.sum(axes));
    }
    case 'Cast':
      return after(`cast to ${node.int('to', 0)} of ${a?.value.dtype}`, [a], ([x]) =>
        x.op('Cast', [], { to: node.int('to', 0) }),
      );
    case 'Add':
      return after('add', [a, b], ([x, y]) => x.add(y));
    case 'Reshape': {
      const shape = constantOf(node, 1);
      if (shape?.[0] !== -1 || shape.length > 2) return undefined;
      // [-1] of a row, or [-1, w] of rows. Several rows side by side would not be flat as one after the other are.
      if (shape.length === 1 && !['Gemm', 'ReduceSum'].includes(a?.value.producer?.op ?? '')) return undefined;
      return shape.length === 1
        ? after('flat', [a], ([x]) => x.reshape(-1))
        : after('rows', [a], ([x], width) => x.reshape(-1, width));
    }
    default:
      return undefined;
  }
}

const constantOf = (node: Node, i: number): number[] | undefined => {
  const constant = node.inputs[i]?.constant;
  return constant ? Array.from(constant.data as ArrayLike<number | bigint>, Number) : undefined;
};

/** Number of columns of rows: the last number of the constant shape. */
const widthOf = ({ value: { producer } }: Expr): number | undefined =>
  producer?.op === 'Reshape' ? constantOf(producer, 1)?.at(-1) : undefined;

function isOnes(v: Value | null | undefined): boolean {
  const node = v?.producer;
  return node?.op === 'Cast' ? isOnes(node.inputs[0]) : node?.op === 'ConstantOfShape';
}

/** Whether their shape begins with 1. */
function isRowOfOnes(v: Value | null | undefined): boolean {
  const node = v?.producer;
  if (node?.op === 'Cast') return isRowOfOnes(node.inputs[0]);
  const first = node?.op === 'ConstantOfShape' ? node.inputs[0]?.producer?.inputs[0]?.constant : undefined;
  return first?.data.length === 1 && Number(first.data[0]) === 1;
}
