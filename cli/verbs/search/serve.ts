/** @file `distill serve`: serves an index over HTTP. */
import { once } from 'node:events';
import { Command } from 'commander';
import { progressReporter } from '../../terminal/progress.ts';
import type { Verb } from '../../terminal/verb.ts';

interface Options {
  encoder?: string;
  cascade?: string;
  reranker?: string;
  semanticCache?: string;
  host: string;
  port: number;
  readOnly?: boolean;
  maxBody?: number;
  maxTexts?: number;
  timeout?: number;
  queue?: number;
  concurrency?: number;
}

/** Only the options given; the server has defaults for the others. */
const given = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined)) as Partial<T>;

export const serve: Verb = ({ out, err, signal }) =>
  new Command('serve')
    .description(
      'serve an index over HTTP: /search, /embed, /embed_sparse, /rerank, /documents, /health, /healthz, /metrics',
    )
    .argument('<index>', 'folder of the index')
    .option(
      '--host <address>',
      'address to listen on; for addresses other than loopback use a proxy with access control',
      '127.0.0.1',
    )
    .option('--port <n>', 'port to listen on; 0 for a free one', Number, 8080)
    .option('--cascade <file>', 'cascade.json that decides when the teacher re-ranks')
    .option('--reranker <dir>', "cross-encoder for /rerank; the cascade's teacher by default")
    .option('--semantic-cache <file>', 'semantic-cache.json: queries near to earlier ones take their answers')
    .option('--encoder <dir>', 'folder of the checkpoint, if it was moved')
    .option('--read-only', 'refuse to add or remove documents, so that other processes can write the index')
    .option('--max-body <bytes>', 'maximum bytes of a request; 2000000 by default', Number)
    .option('--max-texts <n>', 'maximum texts or documents of a request; 256 by default', Number)
    .option('--timeout <ms>', 'timeout of a request in milliseconds; 30000 by default', Number)
    .option('--queue <n>', 'maximum of waiting requests before others are refused; 64 by default', Number)
    .option('--concurrency <n>', 'requests that run concurrently; 2 by default', Number)
    .addHelpText(
      'after',
      '\nExample:\n  distill serve indexes/debian --port 8080 --cascade cascade.json\n  curl localhost:8080/search -H "content-type: application/json" -d \'{"query": "resize an image"}\'',
    )
    .action(async (index: string, options: Options) => {
      const { startServer } = await import('../../../search/serve.ts');
      const onProgress = progressReporter(err);
      const { encoder, cascade, reranker, semanticCache, host, port } = options;
      const limits = given({
        body: options.maxBody,
        texts: options.maxTexts,
        time: options.timeout,
        queue: options.queue,
        concurrency: options.concurrency,
      });
      const server = await startServer({
        ...{ index, encoder, cascade, reranker, semanticCache, host, port, limits },
        writable: !options.readOnly,
        onLog: (note) => onProgress({ stage: 'serve', done: 0, unit: 'requests', note }),
      });
      out.write(`serving ${server.documents} documents on ${server.url}\n`);
      try {
        if (!signal.aborted) await once(signal, 'abort');
      } finally {
        await server.close();
        out.write('ended: every request was answered, the index is closed\n');
      }
    });
