/** @file Cache of a service's replies by content: JSON lines, appended, so that a kill loses the last one at most. */
import { createReadStream, existsSync } from 'node:fs';
import { appendFile, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';

export interface Reply {
  readonly text: string;
  readonly tokens: number;
}

/** What JSON leaves as it is, and a reader of lines takes for the end of one. */
const ENDS_LINES = /[\u2028\u2029]/g;

export class ReplyCache {
  private constructor(
    private readonly file: string,
    private readonly known: Map<string, Reply>,
  ) {}

  /** Reads the existing file; a truncated last line is ignored, and the next reply starts a new line. */
  static async open(file: string): Promise<ReplyCache> {
    const known = new Map<string, Reply>();
    await mkdir(dirname(file), { recursive: true });
    if (existsSync(file)) {
      for await (const line of createInterface({
        input: createReadStream(file),
        crlfDelay: Number.POSITIVE_INFINITY,
      })) {
        const entry = parsed(line);
        if (entry) known.set(entry.key, entry);
      }
      await endLine(file);
    }
    return new ReplyCache(file, known);
  }

  get(key: string): Reply | undefined {
    return this.known.get(key);
  }

  async put(key: string, { text, tokens }: Reply): Promise<void> {
    this.known.set(key, { text, tokens });
    const line = JSON.stringify({ key, text, tokens }).replace(
      ENDS_LINES,
      (end) => `\\u${end.charCodeAt(0).toString(16)}`,
    );
    await appendFile(this.file, `${line}\n`);
  }
}

function parsed(line: string): (Reply & { key: string }) | undefined {
  try {
    const entry = JSON.parse(line) as Record<string, unknown>;
    if (typeof entry?.key === 'string' && typeof entry.text === 'string' && typeof entry.tokens === 'number')
      return { key: entry.key, text: entry.text, tokens: entry.tokens };
  } catch {
    // A truncated line.
  }
  return undefined;
}

async function endLine(file: string): Promise<void> {
  const handle = await open(file, 'r');
  let open_ = false;
  try {
    const { size } = await handle.stat();
    if (size > 0) {
      const last = Buffer.alloc(1);
      await handle.read(last, 0, 1, size - 1);
      open_ = last[0] !== 10;
    }
  } finally {
    await handle.close();
  }
  if (open_) await appendFile(file, '\n');
}
