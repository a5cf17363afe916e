/** @file Descriptions that stand beside a model's graphs. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';

/**
 * A JSON file by its schema.
 * @param refuse throws with the reason: no JSON, or the first place that the schema does not know
 */
export async function readFacts<T>(file: string, schema: z.ZodType<T>, refuse: (why: string) => never): Promise<T> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    refuse('it is not JSON, or cannot be read');
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return refuse([issue.path.join('.'), issue.message].filter(Boolean).join(': '));
}
