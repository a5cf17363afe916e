/** @file A local HTTP server for tests: answers by a function, and fails as it is told to. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  /** JSON, or the lines of JSON. */
  body: unknown;
  lines: string[];
}

export interface Answered {
  status?: number;
  body: unknown;
}

export interface FakeServer {
  host: string;
  /** Requests so far, as `METHOD path`. */
  asked: string[];
  /** The next requests fail with a status, or with a broken connection for 0. */
  fail(times: number, status: number, body?: unknown): void;
  close(): Promise<void>;
}

export async function fakeServer(answer: (asked: Asked) => Answered): Promise<FakeServer> {
  const failing: { status: number; body: unknown }[] = [];
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const url = new URL(request.url ?? '/', 'http://host');
    asked.push(`${request.method} ${url.pathname}`);
    const fault = failing.shift();
    if (fault?.status === 0) return void request.socket.destroy();
    const lines = text.split('\n').filter(Boolean);
    const json = lines.length > 1 ? undefined : text && JSON.parse(text);
    const { method = '', headers } = request;
    const { status = 200, body } =
      fault ?? answer({ method, path: url.pathname, query: url.searchParams, headers, body: json, lines });
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    fail(times, status, body = {}) {
      for (let i = 0; i < times; i++) failing.push({ status, body });
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((s, v, i) => s + v * b[i], 0);
