/**
 * @file What other forms of a layer cost on this machine: attention by length, experts by number, products with few hidden units.
 *
 *   npm run bench -- architectures [attention] [experts] [units] [words of the rows wanted]
 */
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import { type ArchitectureOptions, applyArchitecture, architectureSchema } from '../../students/architectures/index.ts';

const HIDDEN = 384;
const UNITS = 1536;
const THREADS = [1, 2];

/** One layer of minilm-l6's size with a small vocabulary. */
async function layerOf(architecture?: object): Promise<Graph> {
  const shape = { vocabularySize: 100, hidden: HIDDEN, layers: 1, heads: 12, intermediate: UNITS, maxLength: 4096 };
  const graph = bertGraph(shape, Random.of(0, 'bench'));
  if (architecture)
    await applyArchitecture(graph, architectureSchema.parse(architecture) as readonly ArchitectureOptions[]);
  return graph;
}

/** The least of several runs, in ms: other work on the machine only adds. Of one thread the processor's time, of more the clock's. */
async function least(graph: Graph, feeds: Record<string, Tensor>, threads: number): Promise<number> {
  const session = await Session.load(graph.clone(), { threads });
  const given = Object.fromEntries(session.inputs.map((name) => [name, feeds[name]]));
  let best = Number.POSITIVE_INFINITY;
  const until = performance.now() + 300;
  try {
    await session.run(given);
    for (let i = 0; i < 3 || (i < 200 && performance.now() < until); i++) {
      const [start, used] = [performance.now(), process.cpuUsage()];
      await session.run(given);
      const { user, system } = process.cpuUsage(used);
      best = Math.min(best, threads === 1 ? (user + system) / 1000 : performance.now() - start);
    }
  } finally {
    await session.release();
  }
  return best;
}

function tokens(length: number): Record<string, Tensor> {
  const random = Random.of(1, 'tokens');
  const ids = Array.from({ length }, () => random.integer(100));
  return {
    input_ids: tensor('int64', [1, length], ids),
    attention_mask: tensor(
      'int64',
      [1, length],
      ids.map(() => 1),
    ),
    token_type_ids: tensor(
      'int64',
      [1, length],
      ids.map(() => 0),
    ),
  };
}

/** Whether a row is among those asked for. */
function shown(name: string): boolean {
  const words = process.argv.slice(2).filter((w) => !['attention', 'experts', 'units'].includes(w));
  return !words.length || words.some((w) => name.includes(w));
}

const row = (cells: readonly (string | number)[]): void =>
  console.log(`| ${cells.map((c) => (typeof c === 'number' ? c.toFixed(c < 10 ? 2 : 1) : c)).join(' | ')} |`);
function head(title: string, columns: readonly string[]): void {
  console.log(`\n${title}\n`);
  row(columns);
  row(columns.map(() => '---'));
}

/** A layer of one document by its length. */
async function attention(): Promise<void> {
  const forms = {
    softmax: undefined,
    'FAVOR++, 64 features': { kind: 'favor', features: 64 },
    'tree of depth 3': { kind: 'tree', depth: 3 },
  };
  const lengths = [128, 512, 1024, 2048, 4096];
  head('A layer of 384 x 12 heads, one document, ms', ['attention', 'threads', ...lengths.map((n) => `${n} tokens`)]);
  for (const [name, form] of Object.entries(forms)) {
    if (!shown(name)) continue;
    const graph = await layerOf(form);
    for (const threads of THREADS) {
      const cells: number[] = [];
      for (const n of lengths) cells.push(await least(graph, tokens(n), threads));
      row([name, `${threads}`, ...cells]);
    }
  }
}

/** A layer by the number of experts: with two a token the work stays, the weights grow. */
async function experts(): Promise<void> {
  head('A layer, one thread, ms', ['feed-forward network', '12 tokens', '512 tokens']);
  const lengths = [12, 512];
  for (const [name, form] of [
    ['dense', undefined],
    ...[2, 4, 8, 16, 32].map((n) => [`${n} experts, 2 by token`, { kind: 'experts', experts: n }] as const),
    ...[1, 4].map((n) => [`8 experts, ${n} by token`, { kind: 'experts', experts: 8, chosen: n }] as const),
  ] as const) {
    if (!shown(name)) continue;
    const graph = await layerOf(form);
    const cells: number[] = [];
    for (const n of lengths) cells.push(await least(graph, tokens(n), 1));
    row([name, ...cells]);
  }
}

/** The second product of the network: whole, and with the rows of the units that some token has. */
async function units(): Promise<void> {
  head('The second product, 1,536 units to 384, one thread, ms', [
    'tokens',
    'non-zero a token',
    'of all tokens',
    'whole',
    'gathered rows',
  ]);
  const random = Random.of(2, 'units');
  const weights = tensor(
    'float32',
    [UNITS, HIDDEN],
    Float32Array.from({ length: UNITS * HIDDEN }, () => random.normal()),
  );
  const product = (gathered: boolean): Graph => {
    const graph = new Graph(20);
    const h = new Expr(graph, graph.input('h', 'float32', ['tokens', UNITS]));
    const w = new Expr(graph, graph.constant(weights));
    const used = (): Expr => h.reduceMax([0]).greater(0).op('NonZero').squeeze(0);
    const at = gathered ? used() : undefined;
    graph.output((at ? h.gather(at, 1).matmul(w.gather(at)) : h.matmul(w)).value, 'out');
    return graph;
  };
  for (const n of [1, 4, 12, 64])
    for (const share of [0.01, 0.08]) {
      const data = Float32Array.from({ length: n * UNITS }, () => (random.uniform() < share ? random.uniform() : 0));
      const used = Array.from({ length: UNITS }, (_, k) => k).filter((k) =>
        data.some((v, i) => i % UNITS === k && v > 0),
      );
      const feeds = { h: tensor('float32', [n, UNITS], data) };
      const times = [await least(product(false), feeds, 1), await least(product(true), feeds, 1)];
      const cells = times.map((t) => t.toFixed(3));
      row([`${n}`, `${Math.round(100 * share)} %`, `${Math.round((100 * used.length) / UNITS)} %`, ...cells]);
    }
}

const wanted = process.argv.slice(2);
const parts = { attention, experts, units };
for (const [name, part] of Object.entries(parts))
  if (!wanted.some((w) => w in parts) || wanted.includes(name)) await part();
