/** @file A cross-encoder with exits at work: its segments run one after the other, and pairs whose place is settled stop. */
import { type ExitFacts, layersRun, throughExits } from '../adaptive/exits.ts';
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { BatchShape } from '../data/batches.ts';
import type { Tokens } from '../data/tokenizer.ts';
import { floatsOf, type Tensor } from '../engine/graph/tensor.ts';
import { readModelFile } from '../engine/io/model-file.ts';
import { HIDDEN, PREVIOUS } from '../engine/passes/segments.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { modelHash } from '../models/model-folder.ts';
import { promptKey } from '../models/modules/prompts.ts';
import { type ExitsFile, readExits, segmentFile } from './exits-file.ts';
import { type FolderReading, limitSays, pairTokens, type ReadingOptions, readFolder } from './reading/describe.ts';
import type { Pair, Teacher } from './teacher.ts';

export interface ExitsOptions extends ReadingOptions {
  name?: string;
  batchTokens?: number;
  session?: SessionOptions;
}

/** A query's documents scored by leaving early. */
export interface EarlyScores {
  /** [n] each document's score at its exit. */
  scores: Float32Array;
  /** Layers that the documents went through in all. */
  layers: number;
}

/** A cross-encoder with exits. As a teacher it gives the whole model's scores. */
export interface ExitsTeacher extends Teacher {
  readonly exits: ExitsFile;
  /** Scores of pairs at every exit: [exits][n]. */
  scoreExits(pairs: readonly Pair[], watch?: RunControl): Promise<Float32Array[]>;
  /**
   * Scores of one query's documents by leaving early.
   * @param threshold of the file by default; Infinity: all layers
   * @param before scores of the query's documents that are known already
   */
  scoreEarly(
    query: string,
    documents: readonly string[],
    options?: { threshold?: number; before?: ArrayLike<number> },
    watch?: RunControl,
  ): Promise<EarlyScores>;
}

/** Whether a teacher has exits. */
export const isExits = (teacher: Teacher): teacher is ExitsTeacher => 'scoreExits' in teacher;

/** Pairs whose token vectors are held at a time. */
const CHUNK = 256;

/** The key of the teacher that `openExits` opens. */
export const exitsKey = async (folder: string, options: ReadingOptions = {}): Promise<string> =>
  (await described(folder, options)).key;

/** @throws InputError where files are missing, or a segment is not one */
async function described(folder: string, { label, output, ...limits }: ReadingOptions) {
  const given = Object.entries({ label, output }).find(([, v]) => v !== undefined);
  if (given)
    throw new InputError({
      code: 'exits.options',
      subject: `'${given[0]}' is given for ${folder}, whose segments have one score each`,
      remedy: 'leave it out: it was chosen when the exits were made',
    });
  const exits = await readExits(folder);
  const files = exits.layers.map((_, i) => segmentFile(folder, i));
  const reading = await readFolder(files[0], limits);
  const hashes = await Promise.all(files.map(modelHash));
  const prompts = promptKey(reading.own.query, reading.own.document);
  const parts = [...hashes, reading.tokenizer.hash, JSON.stringify(reading.limits), ...(prompts ? [prompts] : [])];
  const key = hashParts('exits', ...parts);
  return { exits, files, reading, key };
}

/**
 * Opens a folder that `distill exits` made.
 * @throws InputError where exits.json or a segment is missing or not understood
 */
export async function openExits(folder: string, options: ExitsOptions = {}): Promise<ExitsTeacher> {
  const { batchTokens: most = batchTokens(options.session), session, name = folder, ...reading } = options;
  const { exits, files, reading: read, key } = await described(folder, reading);
  const segments = await openSegments(files, session);
  const model = { ...read, segments, most };
  const { tokenizer, limits, plan } = read;
  const tokensOf = pairTokens(read);
  const whole = exits.layers.length - 1;

  /** Runs some pairs to each exit in turn, pairs that `keep` drops left out. */
  async function scoreExits(pairs: readonly Pair[], watch: RunControl = {}): Promise<Float32Array[]> {
    const out = exits.layers.map(() => new Float32Array(pairs.length));
    for (let at = 0; at < pairs.length; at += CHUNK) {
      const part = pairs.slice(at, at + CHUNK);
      const run = new ExitRun(model, part.map(tokensOf), watch);
      const every = part.map((_, i) => i);
      for (const exit of exits.layers.keys()) out[exit].set(await run.score(exit, every), at);
      watch.onProgress?.({ stage: 'score', done: at + part.length, total: pairs.length, unit: 'pairs' });
    }
    return out;
  }

  return {
    name,
    kind: 'cross-encoder',
    key,
    tokenizer: tokenizer.hash,
    exits,
    facts: {
      file: files.join(', '),
      inputs: plan.says,
      score: `logits after the layers ${exits.layers.join(', ')}; as a teacher after the last`,
      limit: limitSays(limits, plan),
      notes: read.notes,
    },
    scoreExits,
    score: async (pairs, watch) => (await scoreExits(pairs, watch))[whole],
    async scoreEarly(query, documents, { threshold = exits.threshold, before = [] } = {}, watch = {}) {
      const run = new ExitRun(
        model,
        documents.map((document) => tokensOf({ query, document })),
        watch,
      );
      const facts: ExitFacts = exits;
      const left = await throughExits(facts, documents.length, threshold, (e, at) => run.score(e, at), before);
      return { scores: left.scores, layers: layersRun(facts, left.exits) };
    },
    async dispose() {
      for (const { session } of segments) await session.release();
    },
  };
}

export interface OpenSegment {
  file: string;
  session: Session;
  /** Names of its inputs other than the token vectors. */
  inputs: readonly string[];
  /** Output of the token vectors; absent in the last one. */
  hidden?: string;
}

async function openSegments(files: readonly string[], options?: SessionOptions): Promise<OpenSegment[]> {
  const opened: OpenSegment[] = [];
  try {
    for (const [i, file] of files.entries()) {
      const { inputs, outputs, source } = await readModelFile(file);
      const hidden = i < files.length - 1 ? HIDDEN : undefined;
      const has = (list: readonly { name: string }[], wanted: string): boolean => list.some((v) => v.name === wanted);
      if (!has(outputs, 'logits') || (hidden && !has(outputs, hidden)) || (i > 0 && !has(inputs, PREVIOUS)))
        throw new InputError({
          code: 'exits.segment',
          subject: `${file} has the inputs ${inputs.map((v) => v.name).join(', ')} and the outputs ${outputs.map((v) => v.name).join(', ')}`,
          expected: `the ${i > 0 ? `input ${PREVIOUS} and the ` : ''}output${hidden ? `s ${hidden} and` : ''} logits`,
          remedy: 'make the folder again with distill exits',
        });
      opened.push({
        file,
        session: await Session.open(await source(), options, file),
        inputs: inputs.map((v) => v.name).filter((name) => name !== PREVIOUS),
        hidden,
      });
    }
    return opened;
  } catch (error) {
    for (const { session } of opened) await session.release();
    throw error;
  }
}

/** A batch of pairs on its way through the segments. */
interface Block extends Omit<BatchShape, 'at'> {
  /** Positions of its rows, of which the first are pairs and the others fill it up. */
  at: readonly number[];
  feeds: Record<string, Tensor>;
  hidden?: Tensor;
}

/** What a run needs: how texts are fed, and the segments. */
export interface ExitModel extends Pick<FolderReading, 'plan' | 'limits'> {
  segments: readonly OpenSegment[];
  /** Padded tokens a batch. */
  most: number;
}

/** Some pairs on their way through the exits: what they have reached is held for the next one. */
export class ExitRun {
  private blocks: Block[];

  constructor(
    private readonly model: ExitModel,
    tokens: readonly Tokens[],
    private readonly watch: RunControl,
  ) {
    const { plan, most, limits, segments } = model;
    const lengths = tokens.map((t) => t.ids.length);
    const onDevice = segments[0].session.onDevice;
    this.blocks = plan.batches(lengths, most, onDevice, limits.maxLength).map((shape) => ({
      ...shape,
      feeds: plan.feeds(
        shape.at.map((i) => tokens[i]),
        shape,
      ),
    }));
  }

  /** The scores at an exit of the pairs at these positions, in this order; the others leave. Exits are asked for in turn. */
  score(exit: number, wanted: readonly number[]): Promise<Float32Array> {
    return this.read(exit, wanted, 'logits', 1);
  }

  /** As `score`, of any output [pairs, width]. */
  async read(exit: number, wanted: readonly number[], output: string, width: number): Promise<Float32Array> {
    const { session, inputs, hidden, file } = this.model.segments[exit];
    const place = new Map(wanted.map((i, k) => [i, k]));
    const out = new Float32Array(wanted.length * width);
    const next: Block[] = [];
    for (const block of this.blocks) {
      this.watch.signal?.throwIfAborted();
      const kept = rowsOf(block, place);
      if (!kept) continue;
      const feeds = Object.fromEntries(inputs.map((name) => [name, kept.feeds[name]]));
      const results = await session.run(kept.hidden ? { ...feeds, [PREVIOUS]: kept.hidden } : feeds);
      const values = floatsOf(results[output]);
      if (values.length !== kept.rows * width)
        throw new InputError({
          code: 'exits.segment',
          subject: `${file} gives '${output}' of shape [${results[output].dims.join(', ')}] for ${kept.rows} pairs`,
          expected: `[${kept.rows}, ${width}]`,
          remedy: width === 1 ? 'exits are made of cross-encoders with one logit' : 'export the model again',
        });
      for (const [row, i] of kept.at.entries())
        out.set(values.subarray(row * width, (row + 1) * width), (place.get(i) as number) * width);
      if (hidden) next.push({ ...kept, hidden: results[hidden] });
    }
    this.blocks = next;
    return out;
  }
}

/** A block without the rows of pairs that left; undefined where all did. */
function rowsOf(block: Block, place: ReadonlyMap<number, number>): Block | undefined {
  const rows = block.at.flatMap((i, row) => (place.has(i) ? [row] : []));
  if (rows.length === block.at.length) return block;
  if (!rows.length) return undefined;
  const taken = (t: Tensor): Tensor => {
    if (t.dims[0] !== block.rows) return t;
    const width = t.data.length / block.rows;
    const data = new (t.data.constructor as Float32ArrayConstructor)(rows.length * width);
    for (const [k, row] of rows.entries())
      data.set((t.data as Float32Array).subarray(row * width, (row + 1) * width), k * width);
    return { ...t, dims: [rows.length, ...t.dims.slice(1)], data } as Tensor;
  };
  return {
    ...block,
    rows: rows.length,
    at: rows.map((row) => block.at[row]),
    feeds: Object.fromEntries(Object.entries(block.feeds).map(([name, t]) => [name, taken(t)])),
    hidden: block.hidden && taken(block.hidden),
  };
}
