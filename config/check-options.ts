/** @file Checks options against a schema: one sentence for the first mistake, with its place and the remedy. */
import { z } from 'zod';
import { InputError, nearest } from '../common/errors.ts';

export interface CheckOptions {
  /** What messages call the source, e.g. the file's name. */
  where: string;
  /** The command that prints the schema. */
  schemaCommand: string;
  /** Error codes begin with it. */
  code: string;
  /** Keys that have another name now, by dotted path; * stands for any one key. */
  renamed?: Readonly<Record<string, string>>;
  /** The line of a key in the file, where the options come from one. */
  lineOf?: (path: readonly PropertyKey[]) => number | undefined;
}

/**
 * The options with every default filled in.
 * @throws InputError for the first mistake: key, what was expected, what was received, the nearest known key
 */
export function checkOptions<S extends z.ZodType>(schema: S, input: unknown, options: CheckOptions): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const { where, schemaCommand, code, renamed = {}, lineOf } = options;
  // A key that is not known is the likelier cause of whatever else is missing.
  const { issues } = result.error;
  const issue = issues.find((i) => i.code === 'unrecognized_keys') ?? issues[0];
  const keys = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path;
  const line = lineOf?.(keys);
  const subject = `${where}${line ? ` line ${line}` : ''}: '${keys.join('.')}'`;
  if (issue.code === 'unrecognized_keys') {
    const now = Object.hasOwn(renamed, keys.join('.')) ? renamed[keys.join('.')] : undefined;
    const known = knownKeys(schema, issue.path, input);
    const elsewhere = knownKeys(schema, issue.path).includes(issue.keys[0]);
    const near = nearest(issue.keys[0], known);
    throw new InputError({
      code: `${code}.unknown-key`,
      subject: `${subject} ${now ? 'is an earlier name' : elsewhere ? 'does not go with the other keys here' : 'is not a known key'}`,
      remedy: now
        ? `write '${now}'`
        : near && !elsewhere
          ? `did you mean '${near}'?`
          : known.length
            ? `known here are ${known.join(', ')}`
            : 'remove it',
    });
  }
  const choice = 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : undefined;
  const received = keys.reduce<unknown>((v, k) => (v as Record<PropertyKey, unknown> | undefined)?.[k], input);
  throw new InputError({
    code: `${code}.invalid`,
    subject: choice
      ? `${subject} is none of ${choice.join(', ')}`
      : `${subject} ${issue.message
          .replace(/^Invalid input: /, '')
          .replace(/^Invalid/, 'is invalid')
          .replace(/^expected (.*), received undefined$/, 'is missing: $1 is expected')
          .replace(/^expected (.*), received (.*)$/, 'is $2 where $1 is expected')}`,
    received: received === undefined ? undefined : JSON.stringify(received)?.slice(0, 80),
    remedy: `${(choice && typeof received === 'string' && did(nearest(received, choice))) || 'fix it'}; \`${schemaCommand}\` prints what is possible`,
  });
}

const did = (near: string | undefined): string | undefined => near && `did you mean '${near}'?`;

interface Node {
  properties?: Record<string, Node>;
  propertyNames?: { enum?: string[] };
  items?: Node;
  anyOf?: Node[];
  oneOf?: Node[];
  const?: unknown;
}

/**
 * Keys that a schema knows at a place, for suggestions.
 * @param input what was given: of the members of a union those of the kind that it names, or all where it names none
 */
export function knownKeys(schema: z.ZodType, at: readonly PropertyKey[], input?: unknown): string[] {
  const members = (n: Node, value: unknown): Node[] => {
    const all = [...(n.anyOf ?? []), ...(n.oneOf ?? [])];
    const kind = (value as { kind?: unknown } | undefined)?.kind;
    const own = all.filter((m) => kind !== undefined && m.properties?.kind?.const === kind);
    return [n, ...(own.length ? own : all).flatMap((m) => members(m, value))];
  };
  let here = [{ node: z.toJSONSchema(schema, { io: 'input' }) as Node, value: input }];
  for (const key of at)
    here = here.flatMap(({ node, value }) =>
      members(node, value).flatMap((m) => {
        const next = typeof key === 'number' ? m.items : m.properties?.[String(key)];
        return next ? [{ node: next, value: (value as Record<PropertyKey, unknown> | undefined)?.[key] }] : [];
      }),
    );
  const nodes = here.flatMap(({ node, value }) => members(node, value));
  return [...new Set(nodes.flatMap((n) => n.propertyNames?.enum ?? Object.keys(n.properties ?? {})))];
}
