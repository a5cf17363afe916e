/** @file Heads that read a pair's score from the first token's vector after earlier layers, fitted to the last layer's logits. */
import { FaultError, InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { cutSegments, HIDDEN, PREVIOUS, type Segment } from '../../engine/passes/segments.ts';
import { Session } from '../../engine/runtime/session.ts';
import { type Linear, ridge } from '../../math/ridge.ts';
import { promptKey } from '../../models/modules/prompts.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { ExitRun, type OpenSegment } from '../../teachers/exits.ts';
import { type FolderReading, pairTokens } from '../../teachers/reading/describe.ts';
import type { Pair } from '../../teachers/teacher.ts';

/** The first token's vector, [batch, width]. */
const STATES = 'states';
/** Every fifth pair takes no part in the fit: the exits' deviations are measured on these. */
const HELD_OUT = 5;
/** Pairs whose token vectors are held at a time. */
const CHUNK = 256;

/** A head, and how near it comes to the whole model on pairs that it was not fitted on. */
export interface Head extends Linear {
  deviation: number;
  /** Share of the variance of the whole model's logits. */
  explained: number;
}

/** What heads are fitted on. */
export interface States {
  width: number;
  /** [exits][pairs, width] */
  states: Float32Array[];
  /** [pairs] the whole model's logits. */
  logits: Float32Array;
}

/**
 * The first token's vectors after the layers given, and the whole model's logits, kept in the cache pair by pair.
 * @param model the cross-encoder with the output `logits` [batch, 1]
 * @throws InputError where the model's token vectors are not [batch, sequence, width], or it has several logits
 */
export async function statesOf(
  model: Graph,
  after: readonly number[],
  reading: Pick<FolderReading, 'plan' | 'limits' | 'tokenizer' | 'own' | 'hash'> & { most: number },
  pairs: readonly Pair[],
  cache: ScoreCache,
  watch: RunControl,
): Promise<States> {
  const segments: OpenSegment[] = [];
  const { tokenizer, limits, own } = reading;
  const prompts = promptKey(own.query, own.document);
  try {
    for (const segment of cutSegments(model, after)) segments.push(await opened(withStates(segment)));
    const tokensOf = pairTokens(reading);
    const width = await widthOf(segments, reading.plan.feeds([tokensOf({ query: 'a', document: 'b' })], PROBE));
    const run = async (part: readonly Pair[], inner: RunControl): Promise<Float32Array> => {
      const each = after.length * width + 1;
      const out = new Float32Array(part.length * each);
      for (let at = 0; at < part.length; at += CHUNK) {
        const own = part.slice(at, at + CHUNK);
        const walk = new ExitRun({ ...reading, segments }, own.map(tokensOf), inner);
        const rows = own.map((_, i) => i);
        for (const exit of after.keys()) {
          const found = await walk.read(exit, rows, STATES, width);
          for (const i of rows) out.set(found.subarray(i * width, (i + 1) * width), (at + i) * each + exit * width);
        }
        const logits = await walk.score(after.length, rows);
        for (const i of rows) out[(at + i + 1) * each - 1] = logits[i];
        inner.onProgress?.({ stage: 'read states', done: at + own.length, total: part.length, unit: 'pairs' });
      }
      return out;
    };
    const found = await cachedRows(
      cache,
      hashParts(
        'exit-states',
        reading.hash,
        tokenizer.hash,
        JSON.stringify([limits, after, ...(prompts ? [prompts] : [])]),
      ),
      pairs,
      run,
      watch,
    );
    return unpacked(found, pairs.length, after.length, width);
  } finally {
    for (const { session } of segments) await session.release();
  }
}

/** Two rows of another length: so that a transposed form is told from [batch, sequence, width]. */
const PROBE = { rows: 1, length: 8 };

async function widthOf(
  [{ session, inputs }]: readonly OpenSegment[],
  feeds: Parameters<Session['run']>[0],
): Promise<number> {
  const { dims } = (await session.run(Object.fromEntries(inputs.map((name) => [name, feeds[name]]))))[HIDDEN];
  if (dims.length === 3 && dims[0] === PROBE.rows && dims[1] === PROBE.length) return dims[2];
  throw new InputError({
    code: 'exits.hidden',
    subject: `the model's layers give values of shape [${dims.join(', ')}] for one pair of ${PROBE.length} tokens`,
    expected: `[1, ${PROBE.length}, width]`,
    remedy: 'this family cannot have exits; use another model',
  });
}

async function opened({ graph, hidden }: Segment): Promise<OpenSegment> {
  return {
    file: 'the model',
    session: await Session.load(graph),
    inputs: graph.inputs.map((v) => v.name).filter((name) => name !== PREVIOUS),
    hidden: hidden && HIDDEN,
  };
}

/** The first token's vectors as an output in addition to the token vectors. */
function withStates({ graph, hidden }: Segment): Segment {
  if (!hidden) return { graph };
  const first = new Expr(graph, hidden).gather(constant(graph, 'int64', [], [0]), 1);
  named(graph, hidden);
  output(graph, first.value, STATES);
  return { graph, hidden };
}

/** A segment with its head: the outputs `hidden` and `logits` [batch, 1]. */
export function withHead({ graph, hidden }: Segment, { weights, intercept }: Linear): Segment {
  if (!hidden) return { graph };
  const first = new Expr(graph, hidden).gather(constant(graph, 'int64', [], [0]), 1);
  const map = new Expr(
    graph,
    graph.constant({ dtype: 'float32', dims: [weights.length, 1], data: Float32Array.from(weights) }, 'exit.weight'),
  );
  const logits = first
    .matmul(map)
    .add(
      new Expr(graph, graph.constant({ dtype: 'float32', dims: [1], data: Float32Array.of(intercept) }, 'exit.bias')),
    );
  named(graph, hidden);
  logits.value.dtype = 'float32';
  logits.value.dims = ['batch', 1];
  output(graph, logits.value, 'logits');
  return { graph, hidden };
}

/** Gives the token vectors the name under which the next segment reads them. */
function named(graph: Graph, hidden: NonNullable<Segment['hidden']>): void {
  const out = new Expr(graph, hidden).op('Identity').value;
  out.dtype = 'float32';
  out.dims = ['batch', 'sequence', 'width'];
  graph.setOutputs();
  output(graph, out, HIDDEN);
}

/** Adds an output under exactly this name: what had it before is no output of a segment. */
function output(graph: Graph, value: Value, name: string): void {
  for (const v of graph.values().values())
    if (v !== value && v.name === name) v.name = graph.freshName(`${name}_before`);
  value.name = name;
  graph.output(value);
}

/** A head an exit by ridge regression. @throws FaultError where a vector or a logit is not finite */
export function fitHeads({ states, logits, width }: States): Head[] {
  if (![logits, ...states].every((values) => values.every(Number.isFinite)))
    throw new FaultError({
      code: 'exits.not-finite',
      subject: "the model's token vectors or logits are not finite on some pairs",
      remedy: 'use a file of the model in float32',
    });
  return states.map((own) => {
    const { map, errors, targets } = ridge(own, logits, width, (row) => row % HELD_OUT === HELD_OUT - 1);
    const middle = targets.reduce((a, b) => a + b, 0) / Math.max(1, targets.length);
    const variance = targets.reduce((s, t) => s + (t - middle) ** 2, 0);
    const squares = errors.reduce((s, e) => s + e * e, 0);
    return {
      ...map,
      deviation: Math.sqrt(squares / Math.max(1, errors.length)),
      explained: variance > 0 ? 1 - squares / variance : 0,
    };
  });
}

async function cachedRows(
  cache: ScoreCache,
  key: string,
  pairs: readonly Pair[],
  run: (part: readonly Pair[], watch: RunControl) => Promise<Float32Array>,
  watch: RunControl,
): Promise<Float32Array> {
  const text = (p: Pair): string => JSON.stringify([p.query, p.document]);
  const byText = new Map(pairs.map((p) => [text(p), p]));
  const kept = cache.wrap({
    name: 'states of exits',
    kind: 'exit-states',
    key,
    score: async () => new Float32Array(0),
    async embed(texts, _, inner = {}) {
      const part = (texts as readonly string[]).map((t) => byText.get(t) as Pair);
      const data = await run(part, inner);
      return { dimensions: data.length / part.length, data };
    },
    dispose: async () => {},
  });
  const found = await kept.embed?.(pairs.map(text), 'document', watch);
  return found?.data ?? new Float32Array(0);
}

function unpacked(data: Float32Array, n: number, exits: number, width: number): States {
  const each = exits * width + 1;
  const states = Array.from({ length: exits }, () => new Float32Array(n * width));
  const logits = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    for (const [e, own] of states.entries())
      own.set(data.subarray(i * each + e * width, i * each + (e + 1) * width), i * width);
    logits[i] = data[(i + 1) * each - 1];
  }
  return { width, states, logits };
}
