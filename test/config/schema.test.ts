/** @file The schemas of options are their help: every property says what it is. */
import { expect, test } from 'vitest';
import { z } from 'zod';
import { main } from '../../cli/program.ts';
import { configSchema } from '../../config/config.ts';
import { exportSchema } from '../../config/export.ts';
import { teacherSchema } from '../../config/teacher.ts';

interface Node {
  description?: string;
  properties?: Record<string, Node>;
  items?: Node | boolean;
  prefixItems?: Node[];
  anyOf?: Node[];
  oneOf?: Node[];
}

/** Dotted names of the properties without a description. */
function silent(node: Node, at: string): string[] {
  const below = [...(node.anyOf ?? []), ...(node.oneOf ?? [])];
  if (typeof node.items === 'object') below.push(node.items);
  return [
    ...Object.entries(node.properties ?? {}).flatMap(([name, p]) => {
      const here = `${at}.${name}`;
      return [...(p.description ? [] : [here]), ...silent(p, here)];
    }),
    ...below.flatMap((n) => silent(n, at)),
  ];
}

test.each(Object.entries({ run: configSchema, 'train-teacher': teacherSchema, export: exportSchema }))(
  'every option of %s has a description',
  (name, schema) => {
    const json = z.toJSONSchema(schema as z.ZodType, { io: 'input' }) as Node;
    expect(Object.keys(json.properties ?? {}).length).toBeGreaterThan(5);
    expect(silent(json, name)).toEqual([]);
  },
);

test('distill schema prints the options of run and of train-teacher', async () => {
  const printed = async (...verb: string[]): Promise<Node> => {
    const text: string[] = [];
    const screen = { write: (s: string) => void text.push(s) };
    expect(await main(['schema', ...verb], { out: screen, err: screen }, new AbortController().signal)).toBe(0);
    return JSON.parse(text.join(''));
  };
  expect(Object.keys((await printed()).properties ?? {})).toContain('querySelection');
  expect((await printed('train-teacher')).properties?.train.properties?.batchSize.description).toBe('queries a step');
});
