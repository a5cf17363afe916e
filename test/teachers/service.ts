/** @file A local server of each protocol, with faults on demand. Its scores depend on the texts alone. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { crc32 } from 'node:zlib';

export interface Call {
  path: string;
  auth: string | undefined;
  body: Record<string, unknown>;
}

export type Fault = (response: ServerResponse, body: Record<string, unknown>) => void;

export interface Service {
  url: string;
  calls: Call[];
  /** The next requests get these in place of an answer. */
  faults: Fault[];
  /** Requests under way at once, at most so far. */
  most: number;
  close(): void;
}

export const DIMENSIONS = 6;

/** A number of a text in (-1, 1). */
const number = (text: string, k = 0): number => Math.sin(crc32(`${k} ${text}`));
export const embeddingOf = (text: string): number[] => {
  const raw = Array.from({ length: DIMENSIONS }, (_, k) => number(text, k));
  const length = Math.hypot(...raw);
  return raw.map((x) => x / length);
};
/** Of a reranker, as a logit. */
export const logitOf = (query: string, document: string): number => 3 * number(`${query} | ${document}`);
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

type Body = Record<string, unknown> & {
  query: string;
  texts: string[];
  documents: string[];
  inputs: string[];
  input: string[];
};

/** Answers by path; rerankers put the best first, as the services do. */
const answers: Record<string, (body: Body) => unknown> = {
  '/rerank': ({ query, texts, raw_scores }) =>
    texts
      .map((t, index) => ({ index, score: raw_scores ? logitOf(query, t) : sigmoid(logitOf(query, t)) }))
      .sort((a, b) => b.score - a.score),
  '/embed': ({ inputs }) => inputs.map(embeddingOf),
  '/v1/embeddings': ({ input }) => ({
    data: input.map((t, index) => ({ index, embedding: embeddingOf(t) })).reverse(),
  }),
  '/v2/rerank': ({ query, documents }) => ({
    results: documents
      .map((t, index) => ({ index, relevance_score: sigmoid(logitOf(query, t)) }))
      .sort((a, b) => b.relevance_score - a.relevance_score),
  }),
};
answers['/v1/rerank'] = answers['/v2/rerank'];

export async function startService(): Promise<Service> {
  let now = 0;
  const server = createServer(async (request: IncomingMessage, response) => {
    service.most = Math.max(service.most, ++now);
    response.on('close', () => now--);
    let text = '';
    for await (const chunk of request) text += chunk;
    const path = request.url ?? '';
    const body = JSON.parse(text) as Body;
    service.calls.push({ path, auth: request.headers.authorization, body });
    const fault = service.faults.shift();
    if (fault) return fault(response, body);
    // Requests meet.
    await new Promise((done) => setTimeout(done, 2));
    say(response, answers[path]?.(body) ?? { error: 'no such path' }, answers[path] ? 200 : 404);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const service: Service = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: [],
    faults: [],
    most: 0,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return service;
}

export function say(
  response: ServerResponse,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}
