/** @file The server as programs start it: its modules are loaded when it is. */
import type { RunningServer, ServeOptions } from '../serving/http/server.ts';

/**
 * Serves an index over HTTP: /search, /embed, /embed_sparse, /similarity, /rerank, /documents, /info, /health, /healthz and /metrics (docs/serving.md).
 * @throws InputError where a folder or the cascade cannot be opened, or the address cannot be listened on
 */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const server = await import('../serving/http/server.ts');
  return server.startServer(options);
}

export type { RunningServer, ServeOptions };
