/** @file Answers of earlier queries: a query near enough takes the old answer, within a certified risk. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { sealed, type Unsealed, unsealed, unsealedReason } from '../common/sealed.ts';
import { LSH_BITS, LSH_TABLES, LshTables } from '../retrieval/lsh.ts';

const FORMAT = 'onnx-distill-semantic-cache-2';
const count = z.number().int().nonnegative();
const share = z.number().min(0).max(1);

const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Of the search whose answers are kept: the index's, or the cascade's over it. */
  key: z.string(),
  /** Cosine from which an earlier answer is taken; `same`: only for the same text. */
  threshold: z.union([z.number().min(-1).max(1), z.literal('same')]),
  bits: z.number().int().min(1).max(30),
  tables: z.number().int().min(1),
  seed: count,
  guarantee: z.strictObject({
    alpha: z.number(),
    delta: share,
    against: z.enum(['labels', 'the fresh answer']),
    queries: count,
    needed: count,
    certified: z.boolean(),
    risk: z.number(),
    hits: share,
  }),
  data: z.strictObject({ name: z.string(), documents: z.string(), split: z.string(), queries: z.string() }),
});

type Stored = z.infer<typeof schema>;
/** As the file says it; a threshold of Infinity takes answers of the same text alone. */
export interface SemanticCacheFile extends Omit<Stored, 'format' | 'threshold'> {
  threshold: number;
}

export async function writeSemanticCache(file: string, { threshold, ...rest }: SemanticCacheFile): Promise<void> {
  const stored: Stored = { format: FORMAT, ...rest, threshold: Number.isFinite(threshold) ? threshold : 'same' };
  await writeWhole(file, sealed(stored, 1));
}

/** @throws InputError where there is no such file, or it is not understood */
export async function readSemanticCache(file: string): Promise<SemanticCacheFile> {
  const refuse = (subject: string): never => {
    throw new InputError({ code: 'semantic-cache.file', subject, remedy: 'make it with distill semantic-cache' });
  };
  if (!existsSync(file)) refuse(`there is no file ${file}`);
  const read = unsealed(await readFile(file, 'utf8'));
  const parsed = read.value && schema.safeParse(read.value);
  if (!parsed?.success) {
    const [issue] = parsed?.error.issues ?? [];
    const why = issue
      ? [issue.path.join('.'), issue.message].filter(Boolean).join(': ')
      : unsealedReason(read as { why: Unsealed }, FORMAT);
    return refuse(`${file} is not a semantic cache of this version (${why})`);
  }
  const { format: _, threshold, ...rest } = parsed.data;
  if (!rest.guarantee.certified && threshold !== 'same')
    refuse(`${file} says that nothing is certified, and its threshold is ${threshold}`);
  return { ...rest, threshold: threshold === 'same' ? Number.POSITIVE_INFINITY : threshold };
}

/** The promise as a sentence. */
export function semanticCacheSentence({ threshold, guarantee: g }: Pick<SemanticCacheFile, 'threshold' | 'guarantee'>) {
  const percent = (x: number): string => `${Number((100 * x).toPrecision(4))} %`;
  if (!g.certified || threshold === Number.POSITIVE_INFINITY)
    return `${g.certified ? 'no similarity could be certified' : `nothing could be certified with ${g.queries} queries (at least ${g.needed} are needed)`}: only a query with the same text takes an earlier answer`;
  return `a query takes the answer of an earlier one from a cosine of ${threshold} on: a query loses on average at most ${g.alpha} of nDCG@10 (by ${g.against}) with a confidence of ${percent(1 - g.delta)}, certified on ${g.queries} queries, of which ${percent(g.hits)} took one`;
}

interface Entry<A> {
  text: string;
  vector: Float32Array;
  answer: A;
}

/** An earlier answer that is taken. */
export interface EarlierAnswer<A> {
  /** The query that it was given to, and its cosine; 1 for the same text. */
  text: string;
  similarity: number;
  answer: A;
}

export interface SemanticCacheOptions {
  dimensions: number;
  /** Cosine from which an answer is taken; Infinity: only of the same text. */
  threshold: number;
  bits?: number;
  tables?: number;
  seed?: number;
  /** Answers kept; the one not used for the longest time goes first. */
  capacity?: number;
}

/** Answers of earlier queries in memory, found by text and by vector. */
export class SemanticCache<A> {
  /** Queries that took an earlier answer, and that did not. */
  hits = 0;
  misses = 0;
  private readonly entries = new Map<string, Entry<A>>();
  private readonly tables: LshTables<string>;
  private readonly threshold: number;
  private readonly capacity: number;

  constructor({ dimensions, threshold, capacity = 10_000, ...lsh }: SemanticCacheOptions) {
    this.tables = new LshTables({ dimensions, bits: LSH_BITS, tables: LSH_TABLES, ...lsh });
    this.threshold = threshold;
    this.capacity = capacity;
  }

  /** Answers kept. */
  get size(): number {
    return this.entries.size;
  }

  /** The answer of the same text, without a vector; nothing is counted where there is none that is usable. */
  same(text: string, usable: (answer: A) => boolean = () => true): EarlierAnswer<A> | undefined {
    const entry = this.entries.get(text);
    if (!entry || !usable(entry.answer)) return undefined;
    this.hits++;
    this.used(entry);
    return { text, similarity: 1, answer: entry.answer };
  }

  /** The answer of the most similar query that meets this one in a table and is near enough. @param vector of any length */
  find(vector: Float32Array, usable?: (answer: A) => boolean): EarlierAnswer<A> | undefined {
    const found = this.nearest(vector, usable);
    if (!found || found.similarity < this.threshold) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    this.used(this.entries.get(found.text) as Entry<A>);
    return found;
  }

  /** The most similar query that meets this one in a table, however far it is; nothing is counted. */
  nearest(vector: Float32Array, usable: (answer: A) => boolean = () => true): EarlierAnswer<A> | undefined {
    const unit = unitOf(vector);
    let best: EarlierAnswer<A> | undefined;
    for (const text of this.tables.near(unit)) {
      const { vector: own, answer } = this.entries.get(text) as Entry<A>;
      if (!usable(answer)) continue;
      let similarity = 0;
      for (let d = 0; d < unit.length; d++) similarity += unit[d] * own[d];
      if (!best || similarity > best.similarity) best = { text, similarity, answer };
    }
    return best;
  }

  /** Keeps an answer. */
  put(text: string, vector: Float32Array, answer: A): void {
    const entry = { text, vector: unitOf(vector), answer };
    this.drop(text);
    this.entries.set(text, entry);
    this.tables.add(text, entry.vector);
    if (this.entries.size > this.capacity) this.drop(this.entries.keys().next().value as string);
  }

  /** Forgets every answer: the documents are others now. */
  clear(): void {
    for (const text of [...this.entries.keys()]) this.drop(text);
  }

  private used(entry: Entry<A>): void {
    this.entries.delete(entry.text);
    this.entries.set(entry.text, entry);
  }

  private drop(text: string): void {
    const entry = this.entries.get(text);
    if (!entry) return;
    this.entries.delete(text);
    this.tables.remove(text, entry.vector);
  }
}

function unitOf(vector: Float32Array): Float32Array {
  let square = 0;
  for (const v of vector) square += v * v;
  const length = Math.sqrt(square);
  return length > 0 ? vector.map((v) => v / length) : vector.slice();
}
