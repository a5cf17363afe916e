/** @file The two kinds of failure a user sees, each one sentence: a mistake in the input, and a fault at run time. */

/** The parts of an error message; every message of the toolkit is built from them in this order. */
export interface ErrorDetails {
  /** Stable code for programs and tests, e.g. `data.malformed-line`. */
  code: string;
  /** What is wrong and where: a file, a line, a key. */
  subject: string;
  /** What was expected there. */
  expected?: string;
  /** What was found instead. */
  received?: string;
  /** What to do about it. */
  remedy?: string;
  cause?: unknown;
}

/** @returns "subject: expected X, received Y; remedy." as one sentence */
export function sentence({ subject, expected, received, remedy }: ErrorDetails): string {
  const found = [expected && `expected ${expected}`, received && `received ${received}`].filter(Boolean).join(', ');
  return `${subject}${found ? `: ${found}` : ''}${remedy ? `; ${remedy}` : ''}`;
}

/** A mistake in the input: a file, a config key, a model. The command exits with 2 and leaves existing results unchanged. */
export class InputError extends Error {
  readonly code: string;
  readonly exitCode: number = 2;
  constructor(details: ErrorDetails) {
    super(sentence(details), details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = details.code;
  }
}

/** A failure at run time (disk full, non-finite numbers): the command exits with 3. */
export class FaultError extends InputError {
  override readonly exitCode: number = 3;
}

/** Makes untrusted text safe to print on one line of a terminal: control characters are shown by their codes. */
export const shown = (text: string): string =>
  text.replace(CONTROLS, (c) =>
    c === '\n'
      ? '\\n'
      : c === '\t'
        ? '\\t'
        : c === '\r'
          ? '\\r'
          : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals act on them, and on characters that change the writing direction.
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Meaning of the system's error codes that a full, read-only or network disk gives. */
const systemReasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'read-only file system',
  EBUSY: 'in use by another process',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files on this machine',
  ENOSPC: 'no space left on the disk',
  EDQUOT: 'disk quota exceeded',
  EFBIG: 'file too large',
  EIO: 'input/output error',
  ENOENT: 'no such file or folder',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  EEXIST: 'it exists already',
  ELOOP: 'links that lead in a circle',
  ENAMETOOLONG: 'name too long',
  ENOTEMPTY: 'folder not empty',
  EXDEV: 'on another file system',
  ENOTSUP: 'not supported by the file system',
  EOPNOTSUPP: 'not supported by the file system',
  ENOSYS: 'not supported by the system',
  EINVAL: 'refused by the system',
  ENODEV: 'no such device',
  ESTALE: 'stale file handle',
  ETXTBSY: 'in use by another process',
};

/** What an error code of the system means; undefined for others. */
export const systemReason = (code: string | undefined): string | undefined =>
  code !== undefined && Object.hasOwn(systemReasons, code) ? systemReasons[code] : undefined;

/**
 * Turns a file system error into one sentence; returns any other error unchanged.
 * @param doing what was tried, e.g. `write the cache`; the system call by default
 */
export function explainedSystem(error: unknown, doing?: string): unknown {
  if (error instanceof InputError || !(error instanceof Error)) return error;
  const { code, syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
  if (!code || !syscall || !Object.hasOwn(systemReasons, code)) return error;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new FaultError({
    code: `system.${code}`,
    subject: `cannot ${doing ?? syscall}${path ? ` (${[path, dest].filter(Boolean).join(' to ')})` : ''}: ${systemReasons[code]} (${code})`,
    remedy: full
      ? 'free space and run the same command again'
      : code === 'EMFILE' || code === 'ENFILE'
        ? 'raise the limit (ulimit -n) and run the same command again'
        : 'check that path and its rights and run the same command again',
    cause: error,
  });
}

/** The nearest of the known names, or undefined where none is near: for "did you mean". */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(name.length / 2)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++)
      row[j] = Math.min(row[j - 1] + 1, previous[j] + 1, previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    previous = row;
  }
  return previous[b.length];
}

/** The default of a switch over all kinds of something: a kind without a case does not compile. */
export function unreachable(kind: never): never {
  throw new Error(`no case for ${JSON.stringify(kind)}`);
}
