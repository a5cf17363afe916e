/** @file The two kinds of failure a person sees, each one sentence: a mistake in what was given, and a fault while running. */

/** What a message is made of; every message of the toolkit is built from these four in this order. */
export interface Complaint {
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
export function sentence({ subject, expected, received, remedy }: Complaint): string {
  const found = [expected && `expected ${expected}`, received && `received ${received}`].filter(Boolean).join(', ');
  return `${subject}${found ? `: ${found}` : ''}${remedy ? `; ${remedy}` : ''}`;
}

/** A mistake in the input: a file, a config key, a model. The command exits 2 and what was there before stays as it was. */
export class InputError extends Error {
  readonly code: string;
  readonly exitCode: number = 2;
  constructor(complaint: Complaint) {
    super(sentence(complaint), complaint.cause === undefined ? undefined : { cause: complaint.cause });
    this.name = new.target.name;
    this.code = complaint.code;
  }
}

/** Something went wrong while running (disk full, numbers not finite): the command exits 3. */
export class FaultError extends InputError {
  override readonly exitCode: number = 3;
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
