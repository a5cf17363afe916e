/** @file What a row holds apart from its id and text, as JSON has it. */

/**
 * The fields of a row that are not left out, with those of a `metadata` object among them.
 * @param without names of the fields that are read as id, title and text
 * @returns undefined where nothing is left
 */
export function metadataOf(
  values: Readonly<Record<string, unknown>>,
  without: Iterable<string>,
): Record<string, unknown> | undefined {
  const left = new Set(without);
  const own = Object.entries(values).filter(
    ([name, value]) => !left.has(name) && value !== null && value !== undefined,
  );
  const found: Record<string, unknown> = {};
  for (const [name, value] of own) {
    const inner = name === 'metadata' && isObject(value) ? Object.entries(value) : [];
    // Where a field of the object has the name of a field of the row, the object stays one field.
    const merged = isObject(value) && name === 'metadata' && !inner.some(([n]) => own.some(([o]) => o === n));
    for (const [n, v] of merged ? inner : [[name, value] as const]) found[n] = plain(v);
  }
  return Object.keys(found).length ? found : undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  !ArrayBuffer.isView(value) &&
  !(value instanceof Date);

/** A value of a table as JSON has it: whole numbers that a double does not hold as their digits, dates in ISO form. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, plain);
  if (Array.isArray(value)) return value.map(plain);
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, plain(v)]));
  return value;
}
