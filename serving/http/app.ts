/**
 * @file The routes of a server over an index: search, embed, rerank, documents, health, metrics.
 *
 * /embed, /embed_sparse, /similarity, /rerank, /tokenize, /decode, /info and /health are those of text-embeddings-inference.
 * @source github.com/huggingface/text-embeddings-inference, docs/openapi.json and router/src/http/server.rs of version 1.9.3
 */
import { setImmediate } from 'node:timers/promises';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { FaultError, InputError } from '../../common/errors.ts';
import { VERSION } from '../../common/version.ts';
import type { QueryWeights } from '../../models/sparse/sparse-encoder.ts';
import { type CachedSearch, inFolder } from '../cached-search.ts';
import type { Cascade } from '../cascade.ts';
import type { DocumentIndex, SearchHit } from '../documents/document-index.ts';
import type { OpenEncoder } from '../encoder/encoder.ts';
import type { TokenizeOptions } from '../encoder/text-tokens.ts';
import type { Reranker } from '../reranker.ts';
import {
  bodyOf,
  checkCount,
  decodeBody,
  documentsBody,
  embedBody,
  embedSparseBody,
  rerankBody,
  searchBody,
  similarityBody,
  tokenizeBody,
} from './bodies.ts';
import { type Limits, Refusal, WorkQueue } from './limits.ts';
import { serverMetrics } from './metrics.ts';

export interface AppParts {
  index: DocumentIndex;
  /** For /rerank. */
  reranker?: Reranker;
  /** Searches go through it where there is one. */
  cascade?: Cascade;
  /** Answers of earlier queries in front of the index, where there is no cascade. */
  answers?: CachedSearch<SearchHit[]>;
  limits: Limits;
  /** Whether documents may be added and removed. */
  writable: boolean;
  /** Hosts that requests may name; any by default. Keeps other sites' pages from a server on the loopback address. */
  hosts?: readonly string[];
  /** Receives faults, whose details callers do not see. */
  onFault?: (error: unknown) => void;
}

const routes = [
  ...['/search', '/embed_sparse', '/embed', '/similarity', '/rerank', '/documents', '/tokenize', '/decode'],
  ...['/info', '/healthz', '/health', '/metrics'],
];
/** Where work of a model that failed is the status 424, as in text-embeddings-inference. */
const inference = new Set(['/embed', '/embed_sparse', '/similarity', '/rerank', '/tokenize', '/decode']);
/** Mistakes of a caller, whose messages reveal nothing about the server. */
const callers = new Set(['index.add', 'search.k', 'index.unknown']);

export function serverApp({ index, reranker, cascade, answers, limits, writable, hosts, onFault }: AppParts) {
  const queue = new WorkQueue(limits);
  const state = { ending: false };
  const metrics = serverMetrics({
    documents: () => index.size,
    waiting: () => queue.length,
    running: () => queue.running,
    ...(cascade && { driftP: () => cascade.drift().pValue }),
  });
  const app = new Hono();
  app.use(async (c, next) => {
    const started = performance.now();
    const path = routes.find((r) => c.req.path === r || c.req.path.startsWith(`${r}/`)) ?? 'other';
    await next();
    if (state.ending) c.header('connection', 'close');
    metrics.answered(path, c.res.status, started);
  });
  app.use(async (c, next) => {
    const host = c.req.header('host')?.replace(/:\d+$/, '').toLowerCase();
    if (hosts && (host === undefined || !hosts.includes(host)))
      throw new Refusal(403, 'this server answers only requests to the loopback address');
    await next();
  });
  app.use(
    bodyLimit({
      maxSize: limits.body,
      onError: () => {
        throw new Refusal(413, `the body has more than ${limits.body} bytes, the most that this server reads`);
      },
    }),
  );

  app.get('/healthz', (c) => {
    if (state.ending) throw new Refusal(503, 'the server is shutting down', 'Unhealthy');
    return c.json({ status: 'ok', documents: index.size });
  });
  app.get('/health', (c) => {
    if (state.ending) throw new Refusal(503, 'unhealthy', 'Unhealthy');
    return c.body(null, 200);
  });
  let info: Promise<object> | undefined;
  app.get('/info', async (c) => {
    // A reading that failed is tried again.
    info ??= infoOf(index, limits).catch((error: unknown) => {
      info = undefined;
      throw error;
    });
    return c.json(await info);
  });
  app.get('/metrics', async (c) => c.body(await metrics.text(), 200, { 'content-type': metrics.type }));

  app.post('/search', async (c) => {
    const { query, k, filter } = await bodyOf(c, searchBody);
    if (cascade && filter)
      throw new Refusal(422, 'filter: a cascade is certified for searches without one; ask a server without a cascade');
    if (answers && filter)
      throw new Refusal(
        422,
        'filter: earlier answers are of searches without one; ask a server without a semantic cache',
      );
    const answer = await queue.run(async (signal) => {
      if (cascade) return cascade.search(query, k);
      if (!answers) return { documents: await index.search(query, k, { filter, signal }) };
      const found = await answers.search(query, k, async (vector) => inFolder(index).searchVector(vector, query, k));
      return { documents: found.answer.slice(0, k), ...(found.from && { cached: found.from }) };
    });
    if ('pairs' in answer) metrics.asked(answer.pairs);
    if ('cached' in answer && answer.cached) metrics.tookEarlier();
    return c.json(answer);
  });
  app.post('/embed', async (c) => {
    const { inputs, prompt_name, dimensions, normalize } = await bodyOf(c, embedBody);
    const texts = textsOf(inputs, limits);
    const encoder = denseOf(index);
    const width = encoder.dimensions;
    const D = dimensions ?? width;
    if (D > width) throw new Refusal(422, `dimensions: the vectors have ${width}, and ${D} are asked for`);
    const data = await queue.run((signal) => embedded(encoder, texts, prompt_name, signal));
    const rows = texts.map((_, i) => data.subarray(i * width, (i + 1) * width));
    if (normalize ?? true) return c.json(rows.map((row) => unit(row.subarray(0, D))));
    if (rows.every((row) => Math.abs(Math.hypot(...row) - 1) < UNIT))
      throw new Refusal(422, "normalize: the model's folder scales vectors to unit length: leave it out, or true");
    return c.json(rows.map((row) => Array.from(row.subarray(0, D))));
  });
  app.post('/similarity', async (c) => {
    const { inputs, parameters } = await bodyOf(c, similarityBody);
    const { source_sentence: source, sentences } = inputs;
    if (!sentences.length) throw new Refusal(400, 'there are no inputs.sentences', 'Empty');
    const texts = textsOf([source, ...sentences], limits);
    const encoder = denseOf(index);
    const data = await queue.run((signal) => embedded(encoder, texts, parameters?.prompt_name, signal));
    const [first, ...others] = texts.map((_, i) =>
      unit(data.subarray(i * encoder.dimensions, (i + 1) * encoder.dimensions)),
    );
    return c.json(others.map((row) => row.reduce((sum, v, i) => sum + v * first[i], 0)));
  });
  app.post('/embed_sparse', async (c) => {
    const { inputs, prompt_name } = await bodyOf(c, embedSparseBody);
    const texts = textsOf(inputs, limits);
    const { encoder } = index;
    if (!('queryWeights' in encoder))
      throw new Refusal(424, 'the model that is served is no sparse student: ask /embed', 'Backend');
    const rows = await queue.run(async (signal): Promise<QueryWeights[]> => {
      if ((prompt_name ?? 'query') === 'query') return encoder.queryWeights(texts);
      const { offsets, ids, weights } = await encoder.documentWeights(texts, { signal });
      return texts.map((_, d) => ({
        ids: ids.subarray(offsets[d], offsets[d + 1]),
        weights: weights.subarray(offsets[d], offsets[d + 1]),
      }));
    });
    return c.json(
      rows.map(({ ids, weights }) =>
        Array.from(ids, (token, i) => ({ index: token, value: weights[i] })).sort((x, y) => x.index - y.index),
      ),
    );
  });
  app.post('/rerank', async (c) => {
    const body = await bodyOf(c, rerankBody);
    checkCount(body.texts.length, limits, 'texts');
    if (!reranker)
      throw new Refusal(424, 'no re-ranker is served: start the server with --reranker or --cascade', 'Backend');
    const logits = await queue.run((signal) => reranker.score(body.query, body.texts, { signal }));
    const scored = Array.from(logits, (logit, i) => ({
      index: i,
      score: body.raw_scores ? logit : 1 / (1 + Math.exp(-logit)),
      logit,
    }));
    scored.sort((a, b) => b.logit - a.logit || a.index - b.index);
    return c.json(
      scored.map(({ index: i, score }) => ({ index: i, score, ...(body.return_text && { text: body.texts[i] }) })),
    );
  });
  app.post('/tokenize', async (c) => {
    const { inputs, add_special_tokens: specialTokens, prompt_name } = await bodyOf(c, tokenizeBody);
    const texts = textsOf(inputs, limits);
    const role = !prompt_name ? undefined : prompt_name === 'query' ? 'query' : 'document';
    const options: TokenizeOptions = { role, specialTokens };
    return c.json(await queue.run((signal) => inTurn(texts, (text) => index.encoder.tokenize(text, options), signal)));
  });
  app.post('/decode', async (c) => {
    const { ids, skip_special_tokens } = await bodyOf(c, decodeBody);
    const lists = (typeof ids[0] === 'number' ? [ids] : ids) as number[][];
    checkCount(lists.length, limits, 'ids');
    const decoded = (own: number[]): string => index.encoder.decode(own, skip_special_tokens);
    return c.json(await queue.run((signal) => inTurn(lists, decoded, signal)));
  });
  app.post('/documents', async (c) => {
    const documents = await bodyOf(c, documentsBody);
    checkWritable(writable);
    checkCount(documents.length, limits, 'documents');
    await queue.run((signal) => index.add(documents, { signal }));
    return c.json({ added: documents.length, documents: index.size });
  });
  app.delete('/documents/:id', async (c) => {
    checkWritable(writable);
    const id = c.req.param('id');
    const removed = await queue.run(() => index.remove([id]));
    if (!removed) throw new Refusal(404, 'there is no document of this id');
    return c.json({ removed, documents: index.size });
  });
  app.notFound((c) => {
    const known = routes.includes(c.req.path);
    const refusal = known
      ? new Refusal(405, `${c.req.path} is not read with ${c.req.method}`)
      : new Refusal(404, `there is no such path: ${routes.join(', ')}`);
    return c.json(errorBody(refusal), refusal.status);
  });
  app.onError((error, c) => {
    const refusal = refusalOf(error, inference.has(c.req.path));
    if (!(error instanceof Refusal) && refusal.kind === 'Backend') onFault?.(error);
    if (refusal.status === 429) c.header('retry-after', '1');
    return c.json(errorBody(refusal), refusal.status);
  });
  return { app, queue, state };
}

/** @throws Refusal where a sparse student is served */
function denseOf({ encoder }: DocumentIndex): OpenEncoder {
  if ('embedQueries' in encoder) return encoder;
  throw new Refusal(424, 'a sparse student is served, which has no vectors: ask /embed_sparse', 'Backend');
}

const embedded = (
  encoder: OpenEncoder,
  texts: string[],
  prompt: string | null | undefined,
  signal: AbortSignal,
): Promise<Float32Array> =>
  (prompt ?? 'query') === 'query' ? encoder.embedQueries(texts, { signal }) : encoder.embedDocuments(texts, { signal });

/** The fields of text-embeddings-inference's /info, of the encoder of the index and the limits of this server. */
async function infoOf({ encoder }: DocumentIndex, { concurrency, queue, texts }: Limits): Promise<object> {
  const { name, dtype, pooling, queryTokens, batchTokens } = await encoder.describe();
  return {
    model_id: name,
    // A folder does not say which commit of a hub it is.
    model_sha: null,
    model_dtype: dtype,
    served_model_name: name,
    model_type: { embedding: { pooling: pooling.replace('lasttoken', 'last_token') } },
    max_concurrent_requests: concurrency + queue,
    max_input_length: queryTokens,
    max_batch_tokens: Math.max(batchTokens, queryTokens),
    max_batch_requests: null,
    max_client_batch_size: texts,
    auto_truncate: true,
    tokenization_workers: 1,
    version: VERSION,
    sha: null,
    docker_label: null,
  };
}

/** Distance from 1 of the length of a vector that is at unit length. */
const UNIT = 1e-4;

/** A vector at unit length. */
function unit(vector: Float32Array): number[] {
  const scale = 1 / Math.max(Math.hypot(...vector), 1e-12);
  return Array.from(vector, (v) => v * scale);
}

/** Work on this thread, a piece at a time, so that other requests are answered in between. */
async function inTurn<T, R>(pieces: readonly T[], work: (piece: T) => R, signal: AbortSignal): Promise<R[]> {
  const done: R[] = [];
  for (const piece of pieces) {
    await setImmediate();
    signal.throwIfAborted();
    done.push(work(piece));
  }
  return done;
}

/** @throws Refusal where there are none, or too many */
function textsOf(inputs: string | string[], limits: Limits): string[] {
  const texts = typeof inputs === 'string' ? [inputs] : inputs;
  checkCount(texts.length, limits, 'inputs');
  return texts;
}

const errorBody = ({ message, kind }: Refusal) => ({ error: message, error_type: kind });

/** The response to an error: faults of the server reveal no details. */
function refusalOf(error: unknown, ofModel: boolean): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof InputError && !(error instanceof FaultError) && callers.has(error.code))
    return new Refusal(422, error.message);
  if (ofModel) return new Refusal(424, 'inference failed; the log of the server says why', 'Backend');
  return new Refusal(500, 'the server failed; its log says why', 'Backend');
}

function checkWritable(writable: boolean): void {
  if (!writable) throw new Refusal(403, 'this server is read-only');
}
