/** @file A hosted reranker or embedder as teacher. */
import { InputError } from '../../common/errors.ts';
import { canonicalJson, hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import { Interrupted, otherModel, type Pair, type Teacher } from '../teacher.ts';
import { type ClientOptions, ServiceClient, TooMany } from './client.ts';
import { badAnswer, type EmbedFormat, type RerankFormat, type Task } from './format.ts';
import { type FormatName, formats } from './index.ts';

export interface HttpTeacherOptions extends Omit<ClientOptions, 'keyVariable'> {
  format: FormatName;
  /** What it is asked for; embeddings where the address or the format says so, by default. */
  task?: Task;
  model?: string;
  /** Environment variable of the key; as the format says by default. */
  keyVariable?: string;
  /** Texts a request; what the service takes by default. */
  batchSize?: number;
  truncate?: boolean;
  dimensions?: number;
  /** Put before each text. */
  prompts?: { query?: string; document?: string };
  /** Of rerankers: `logit` of a probability, or the number as it is; as the format documents by default. */
  scores?: 'logit' | 'as-it-is';
}

/** Probabilities of 0 or 1 are due to rounding: scores are clipped to +-13.8. */
const NEAREST = 1e-6;

interface Described {
  url: string;
  keyVariable: string;
  key: string;
  rerank?: RerankFormat;
  embed?: EmbedFormat;
  logit: boolean;
}

function describe(options: HttpTeacherOptions): Described {
  const { format, truncate = true, model, dimensions, prompts } = options;
  const { rerank, embed, key: keyVariable, title } = formats[format];
  const given = URL.canParse(options.url) ? new URL(options.url) : undefined;
  const refuse = (subject: string, remedy: string): never => {
    throw new InputError({ code: 'service.options', subject, remedy });
  };
  if (!given || !/^https?:$/.test(given.protocol))
    return refuse(`the service's url is '${options.url}'`, 'give an address that begins with http:// or https://');
  if (given.username || given.password)
    return refuse("the service's url holds a name or password", `take them out and set ${keyVariable} to the key`);
  const path = given.pathname.replace(/\/+$/, '');
  const task = options.task ?? (!rerank || (embed && path.endsWith(embed.path)) ? 'embed' : 'rerank');
  const chosen = task === 'embed' ? embed : rerank;
  if (!chosen) return refuse(`${title} is not asked to ${task} here`, 'use another format');
  if (format !== 'tei' && !model) return refuse(`a request to ${title} names a model`, "add 'model'");
  given.pathname = joined(path, chosen.path);
  const logit =
    task === 'rerank' && (options.scores ? options.scores === 'logit' : (rerank as RerankFormat).probabilities);
  const key = hashParts(
    'http',
    given.href,
    format,
    canonicalJson({ model, truncate, dimensions, prompts: prompts ?? {}, task, logit }),
  );
  return { url: given.href, keyVariable: options.keyVariable ?? keyVariable, key, logit, [task]: chosen };
}

/** The protocol's path behind a base address, unless the address has it, or its beginning, already. */
function joined(path: string, wanted: string): string {
  const last = wanted.slice(wanted.lastIndexOf('/'));
  if (path.endsWith(last)) return path;
  const version = wanted.slice(0, wanted.lastIndexOf('/'));
  return version && path.endsWith(version) ? `${path}${last}` : `${path}${wanted}`;
}

/** Whether a service gives embeddings, whose dot products are the scores. @throws InputError as httpTeacher */
export const servesEmbeddings = (options: HttpTeacherOptions): boolean => describe(options).embed !== undefined;

/** The key of the teacher that `httpTeacher` opens: nothing is asked for it. */
export const httpTeacherKey = (options: HttpTeacherOptions): string => describe(options).key;

/**
 * Opens a service as teacher. Keys come from the environment alone.
 * @throws InputError where options contradict each other. Its functions throw `Interrupted` with what had come where the service
 * fails, refuses, or the budget is spent.
 */
export function httpTeacher(options: HttpTeacherOptions): Teacher {
  const { url, keyVariable, key, rerank, embed, logit } = describe(options);
  const client = new ServiceClient({ ...options, url, keyVariable });
  const { truncate = true, model, dimensions, prompts = {} } = options;
  const said = { model, truncate, dimensions };
  let batch = options.batchSize ?? (rerank ?? embed)?.batch ?? 1;
  let told = false;
  let width = 0;
  let served: string | undefined;
  /** @throws FaultError where the service names another model than before: its numbers do not belong together */
  const asked = async (body: object, n: number, signal: AbortSignal): Promise<unknown> => {
    const answer = await client.post(body, n, signal);
    const named = (answer as { model?: unknown } | null)?.model;
    if (typeof named === 'string' && named !== '') {
      if (served !== undefined && named !== served) throw otherModel(client.name, served, named);
      served = named;
    }
    return answer;
  };

  /** Does work in batches, several at a time; what came before a failure is passed on with it. */
  async function inBatches(
    items: readonly (readonly number[])[],
    n: number,
    ask: (at: readonly number[], signal: AbortSignal) => Promise<Float32Array[]>,
    { signal, onProgress }: RunControl,
    stage: string,
    unit: string,
  ): Promise<Float32Array[]> {
    signal?.throwIfAborted();
    const answers = new Array<Float32Array | undefined>(n);
    const waiting = items.map((at) => [...at]).reverse();
    const stop = new AbortController();
    const both = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    let done = 0;
    let failure: unknown;
    const lane = async (): Promise<void> => {
      for (let next = waiting.pop(); next && !failure; next = waiting.pop()) {
        // Another lane may have learned that the service takes fewer.
        while (next.length > batch) waiting.push(next.splice(batch));
        try {
          const got = await ask(next, both);
          for (const [k, i] of next.entries()) answers[i] = got[k];
          done += next.length;
          onProgress?.({ stage, done, total: n, unit });
        } catch (error) {
          if (error instanceof TooMany && next.length > 1) {
            batch = Math.max(1, Math.min(batch, Math.floor(next.length / 2)));
            waiting.push(next);
            continue;
          }
          failure ??= error instanceof TooMany ? badAnswer(error.message) : error;
          stop.abort();
        }
      }
    };
    await Promise.all(Array.from({ length: Math.max(1, options.concurrency ?? 4) }, lane));
    if (failure || signal?.aborted) throw new Interrupted(signal?.aborted ? signal.reason : failure, answers);
    return answers as Float32Array[];
  }

  const cut = (at: readonly number[]): number[][] => {
    const parts: number[][] = [];
    for (let i = 0; i < at.length; i += batch) parts.push(at.slice(i, i + batch));
    return parts;
  };

  async function vectors(texts: readonly string[], kind: 'query' | 'document', watch: RunControl, stage: string) {
    const format = embed as EmbedFormat;
    const at = Array.from(texts, (_, i) => i);
    const prefix = prompts[kind] ?? '';
    const rows = await inBatches(
      cut(at),
      texts.length,
      async (some, signal) => {
        const body = format.body(
          some.map((i) => sent(prefix + texts[i])),
          said,
        );
        const found = format.read(await asked(body, some.length, signal), some.length);
        // The first answer says the width only once all of it is right.
        const expected = width || found[0]?.length;
        const other = found.find((row) => row.length !== expected);
        if (other) throw badAnswer(`an embedding has ${other.length} components and others ${expected}`);
        width = expected;
        return found;
      },
      watch,
      stage,
      'texts',
    );
    return { dimensions: width, data: flat(rows, width) };
  }

  async function rerankPairs(pairs: readonly Pair[], watch: RunControl): Promise<Float32Array> {
    const format = rerank as RerankFormat;
    if (logit && !told) {
      told = true;
      const note = `${client.name} answers with probabilities: their logit is the score (scores: as-it-is keeps them)`;
      watch.onProgress?.({ stage: 'score', done: 0, total: pairs.length, unit: 'pairs', note });
    }
    // A request asks about one query.
    const byQuery = new Map<string, number[]>();
    for (const [i, { query }] of pairs.entries()) {
      const own = byQuery.get(query);
      if (own) own.push(i);
      else byQuery.set(query, [i]);
    }
    const ask = async (at: readonly number[], signal: AbortSignal): Promise<Float32Array[]> => {
      const documents = at.map((i) => sent((prompts.document ?? '') + pairs[i].document));
      const body = format.body(sent((prompts.query ?? '') + pairs[at[0]].query), documents, said);
      const scores = format.read(await asked(body, at.length, signal), at.length);
      return at.map((_, k) => Float32Array.of(logit ? logitOf(scores[k]) : scores[k]));
    };
    const rows = await inBatches([...byQuery.values()].flatMap(cut), pairs.length, ask, watch, 'score', 'pairs');
    return flat(rows, 1);
  }

  async function dots(pairs: readonly Pair[], watch: RunControl): Promise<Float32Array> {
    const quiet = { ...watch, onProgress: undefined };
    const place = (texts: string[]): Map<string, number> => new Map([...new Set(texts)].map((t, i) => [t, i]));
    const queries = place(pairs.map((p) => p.query));
    const documents = place(pairs.map((p) => p.document));
    const q = await vectors([...queries.keys()], 'query', quiet, 'score');
    const d = await vectors([...documents.keys()], 'document', quiet, 'score');
    watch.onProgress?.({ stage: 'score', done: pairs.length, total: pairs.length, unit: 'pairs' });
    return Float32Array.from(pairs, (p) => {
      const [i, j] = [(queries.get(p.query) as number) * width, (documents.get(p.document) as number) * width];
      let dot = 0;
      for (let k = 0; k < width; k++) dot += q.data[i + k] * d.data[j + k];
      return dot;
    });
  }

  return {
    name: model ? `${model} at ${client.name}` : client.name,
    kind: 'http',
    key,
    served: () => served,
    score: (pairs, watch = {}) => (rerank ? rerankPairs(pairs, watch) : dots(pairs, watch)),
    ...(embed && {
      embed: (texts: readonly string[] | Texts, kind: 'query' | 'document', watch: RunControl = {}) => {
        const all = Array.isArray(texts)
          ? (texts as string[])
          : Array.from({ length: texts.length }, (_, i) => (texts as Texts).text(i));
        return vectors(all, kind, watch, `embed ${kind === 'query' ? 'queries' : 'documents'}`);
      },
    }),
    dispose: async () => {},
  };
}

/** Services refuse empty texts and ill-formed Unicode. */
const sent = (text: string): string => text.toWellFormed() || ' ';

function flat(rows: readonly Float32Array[], width: number): Float32Array {
  const data = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) data.set(row, i * width);
  return data;
}

function logitOf(p: number): number {
  if (p < 0 || p > 1)
    throw badAnswer(`a score is ${p} where the format documents 0 to 1; set 'scores: as-it-is' to keep such scores`);
  const q = Math.min(1 - NEAREST, Math.max(NEAREST, p));
  return Math.log(q / (1 - q));
}
