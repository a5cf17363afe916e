/** @file What a search for settings tries: ways to store and scan vectors, each with one number that trades time for recall. */
import { defaultSettings, type IndexSettings } from '../vector-index.ts';

/** Settings of one encoding, from fast and rough to slow and exact: recall and time rise along the ladder. */
export interface Arm {
  readonly name: string;
  readonly ladder: readonly IndexSettings[];
}

/** Below, a scan of all documents is as fast as cells. */
const CELLS_FROM = 20_000;
/** Above, product codes are not tried: to encode a vector takes a fraction of a millisecond. */
const PRODUCT_UP_TO = 50_000;

/** Above, graphs are tried only where they are asked for: to add a vector takes about a millisecond. */
const GRAPHS_UP_TO = 200_000;

/** Whole numbers from a to b, each about so many times the one before. */
function steps(a: number, b: number, factor = 1.5): number[] {
  const out: number[] = [];
  for (let x = a; x < b; x = Math.max(x + 1, Math.round(x * factor))) out.push(x);
  return [...out, b];
}

/**
 * Half floats and int4 are left out: a scan of them takes as long as one of float32, or longer.
 * @param n documents
 * @param k documents a query
 * @param graphs whether usearch is there
 */
export function armsFor(n: number, dimensions: number, k: number, graphs = false): Arm[] {
  const one = (settings: IndexSettings): Arm => ({ name: settings.codec, ladder: [settings] });
  const counts = steps(Math.min(n, k), Math.min(n, 100 * k));
  const rescored = (settings: IndexSettings, name: string = settings.codec): Arm => ({
    name: `${name}, re-scored in int8`,
    ladder: counts.map((count) => ({ ...settings, rescore: { codec: 'int8', count } })),
  });
  const product = ([16, 32, 48] as const).filter((parts) => n <= PRODUCT_UP_TO && n >= 256 && dimensions % parts === 0);
  const prefixes = [dimensions / 4, dimensions / 2].filter((d) => Number.isInteger(d / 16));
  const root = 2 ** Math.round(Math.log2(Math.sqrt(n)));
  const cells = n < CELLS_FROM ? [] : n < 10 * CELLS_FROM ? [root, 4 * root] : [root];
  const inCells = (count: number): Arm[] => {
    const ladder = (settings: IndexSettings): IndexSettings[] =>
      steps(1, count).map((probes) => ({ ...settings, cells: { count, probes } }));
    return [
      { name: `${count} cells, int8`, ladder: ladder({ codec: 'int8' }) },
      {
        name: `${count} cells, binary, re-scored in int8`,
        ladder: ladder({ codec: 'binary', rescore: { codec: 'int8', count: 20 * k } }),
      },
    ];
  };
  return [
    one(defaultSettings),
    one({ codec: 'float32' }),
    rescored({ codec: 'binary' }),
    ...product.map((parts) => rescored({ codec: `pq${parts}` })),
    ...prefixes.map((d) => rescored({ codec: 'int8', dimensions: d }, `first ${d} dimensions in int8`)),
    ...cells.flatMap(inCells),
    ...(graphs && n >= CELLS_FROM && n <= GRAPHS_UP_TO ? graphArms(n, k) : []),
  ];
}

/** A graph of usearch, walked through with more and more candidates. */
export function graphArms(n: number, k: number): Arm[] {
  const ladder = steps(Math.min(n, k), Math.max(Math.min(n, k), Math.min(n, 1000))).map(
    (expansion): IndexSettings => ({ codec: 'int8', graph: { expansion } }),
  );
  return [{ name: 'graph, int8', ladder }];
}
