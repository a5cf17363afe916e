/** @file Cache of a service's replies by content: JSON lines, appended, so that a kill loses the last one at most. */
import { createReadStream, existsSync } from 'node:fs';
import { appendFile, mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';

export interface Reply {
  readonly text: string;
  readonly tokens: number;
}

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
      const take = (line: string): void => {
        const entry = parsed(line);
        if (entry) known.set(entry.key, entry);
      };
      // Not as data are read, which have to be UTF-8 throughout: a kill may have cut a line within a character. A line ends at \n alone.
      let rest = '';
      for await (const block of createReadStream(file, 'utf8')) {
        const lines = (rest + block).split('\n');
        rest = lines.pop() as string;
        for (const line of lines) take(line);
      }
      take(rest);
      await endLine(file);
    }
    return new ReplyCache(file, known);
  }

  get(key: string): Reply | undefined {
    return this.known.get(key);
  }

  async put(key: string, { text, tokens }: Reply): Promise<void> {
    this.known.set(key, { text, tokens });
    await appendFile(this.file, `${JSON.stringify({ key, text, tokens })}\n`);
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
