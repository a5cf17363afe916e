/** @file A server over an index: opened, listening, and ended without losing a request. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { InputError } from '../../common/errors.ts';
import { openCachedSearch } from '../cached-search.ts';
import { type Cascade, openCascade } from '../cascade.ts';
import type { SearchHit } from '../documents/document-index.ts';
import { openIndex } from '../open-index.ts';
import { openReranker, type Reranker } from '../reranker.ts';
import { serverApp } from './app.ts';
import { defaultLimits, type Limits } from './limits.ts';

/** What is served, where, and within which limits. */
export interface ServeOptions {
  /** Folder of the index. */
  index: string;
  /** The checkpoint's folder, where it was moved. */
  encoder?: string;
  /** cascade.json that searches go through. */
  cascade?: string;
  /** semantic-cache.json of the cascade, or of the index where there is none: queries near to earlier ones take their answers. */
  semanticCache?: string;
  /** Folder of a cross-encoder for /rerank; the cascade's teacher by default. */
  reranker?: string;
  /** The loopback address by default. */
  host?: string;
  /** A free one by default: 0. */
  port?: number;
  /** Whether documents may be added and removed; true by default. The index is this process's alone then. */
  writable?: boolean;
  limits?: Partial<Limits>;
  /** Notes, warnings, and faults with their stack: for the log. */
  onLog?: (line: string) => void;
  /** Milliseconds that requests under way have to end when the server does. */
  grace?: number;
}

/** A server that listens. */
export interface RunningServer {
  /** E.g. http://127.0.0.1:8080 */
  readonly url: string;
  readonly documents: number;
  /** Takes no more requests, waits for those under way, and closes the index. */
  close(): Promise<void>;
}

/** Milliseconds in which requests that were sent before the end was known are still taken, each as the last of its connection. */
const LAST = 250;

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]', '::1'];

/** @throws InputError where a folder or the cascade cannot be opened, or the address cannot be listened on */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const { host = '127.0.0.1', port = 0, writable = true, onLog, grace = 10_000 } = options;
  const limits = checkedLimits({ ...defaultLimits, ...options.limits });
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535))
    throw new InputError({
      code: 'serve.address',
      subject: `the port ${port}`,
      expected: 'a whole number from 0 to 65,535; 0 for a free port',
      remedy: 'choose another --port',
    });
  const closing: (() => Promise<void>)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closing.reverse()) await close();
  };
  try {
    const index = await openIndex(options.index, {
      encoder: options.encoder,
      onProgress: ({ note }) => void (note && onLog?.(note)),
    });
    closing.push(() => index.close());
    if (writable)
      await index.claim().catch((cause) => {
        const { code } = ((cause as Error).cause ?? {}) as NodeJS.ErrnoException;
        if (!['EACCES', 'EPERM', 'EROFS'].includes(code ?? '')) throw cause;
        throw new InputError({
          code: 'serve.read-only',
          subject: `the index ${options.index} cannot be written (${code})`,
          remedy: 'serve it with --read-only, or check the rights of the folder',
          cause,
        });
      });
    let reranker: Reranker | undefined;
    let cascade: Cascade | undefined;
    if (options.cascade !== undefined) {
      cascade = await openCascade(options.cascade, {
        index,
        onNote: onLog,
        semanticCache: options.semanticCache,
      });
      closing.push(cascade.close);
      if (options.reranker === undefined) reranker = cascade.reranker;
    }
    if (options.reranker !== undefined) {
      reranker = await openReranker(options.reranker);
      closing.push(reranker.dispose);
    }
    const answers =
      options.semanticCache !== undefined && !cascade
        ? await openCachedSearch<SearchHit[]>(options.semanticCache, index, index.key)
        : undefined;
    const hosts = LOOPBACK.includes(host) ? LOOPBACK : undefined;
    const onFault = (error: unknown): void =>
      onLog?.(error instanceof Error ? (error.stack ?? error.message) : String(error));
    const { app, queue, state } = serverApp({ index, reranker, cascade, answers, limits, writable, hosts, onFault });
    const server = createAdaptorServer({
      fetch: app.fetch,
      serverOptions: {
        requestTimeout: limits.time,
        headersTimeout: Math.min(limits.time, 10_000),
        connectionsCheckingInterval: 1000,
        maxHeaderSize: 16_384,
      },
    }) as Server;
    server.listen(port, host);
    await once(server, 'listening').catch((cause: NodeJS.ErrnoException) => {
      throw new InputError({
        code: 'serve.address',
        subject: `cannot listen on ${host}:${port} (${cause.code})`,
        remedy: 'choose another --host or --port',
        cause,
      });
    });
    const { port: at } = server.address() as AddressInfo;
    let ended: Promise<void> | undefined;
    const end = async (): Promise<void> => {
      state.ending = true;
      await new Promise((go) => setTimeout(go, LAST));
      const closed = once(server, 'close');
      server.close();
      // A connection whose request was answered after this is idle then.
      const idle = setInterval(() => server.closeIdleConnections(), 20);
      const late = setTimeout(() => server.closeAllConnections(), grace);
      await closed;
      clearInterval(idle);
      clearTimeout(late);
      // Work whose caller has gone still ends: what it writes is whole.
      while (queue.running) await new Promise((go) => setTimeout(go, 10));
      await closeAll();
    };
    return {
      url: `http://${host.includes(':') ? `[${host}]` : host}:${at}`,
      get documents() {
        return index.size;
      },
      close: () => {
        ended ??= end();
        return ended;
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function checkedLimits(limits: Limits): Limits {
  for (const [name, value] of Object.entries(limits))
    if (!(Number.isInteger(value) && value >= (name === 'queue' ? 0 : 1)))
      throw new InputError({
        code: 'serve.limits',
        subject: `the limit '${name}' is ${value}`,
        expected: 'a whole number above 0',
      });
  return limits;
}
