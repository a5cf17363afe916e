/** @file Engines for tests: Postgres in this process behind a socket, LanceDB in a folder, and servers that speak as others do. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fakeOpensearch } from './fake-opensearch.ts';
import { fakeQdrant } from './fake-qdrant.ts';
import type { FakeServer } from './http-server.ts';

export interface TestEngine {
  address: string;
  /** Where it can be told to fail. */
  server?: FakeServer;
  close(): Promise<void>;
}

export async function postgresServer(): Promise<TestEngine> {
  const { PGlite } = await import('@electric-sql/pglite');
  const { vector } = await import('@electric-sql/pglite-pgvector');
  const { PGLiteSocketServer } = await import('@electric-sql/pglite-socket');
  const db = await PGlite.create({ extensions: { vector } });
  const server = new PGLiteSocketServer({ db, port: 0, host: '127.0.0.1', maxConnections: 8 });
  await server.start();
  return {
    address: `postgres://postgres@${server.getServerConn()}/postgres`,
    async close() {
      await server.stop();
      await db.close();
    },
  };
}

async function lancedbFolder(): Promise<TestEngine> {
  const folder = mkdtempSync(join(tmpdir(), 'lance-'));
  return {
    address: `lancedb:${join(folder, "it's a folder")}`,
    close: async () => rmSync(folder, { recursive: true }),
  };
}

const faked =
  (scheme: string, open: () => Promise<FakeServer>, query = '') =>
  async (): Promise<TestEngine> => {
    const server = await open();
    return { address: `${scheme}://${server.host}${query}`, server, close: server.close };
  };

/** By the name of each; every engine of the registry has one. */
export const testEngines: Readonly<Record<string, () => Promise<TestEngine>>> = {
  postgres: postgresServer,
  lancedb: lancedbFolder,
  qdrant: faked('qdrant', fakeQdrant),
  opensearch: faked('opensearch', fakeOpensearch),
  'opensearch, exact': faked('opensearch', fakeOpensearch, '?exact=true'),
};
