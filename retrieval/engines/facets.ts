/** @file What of a document's metadata a search can ask for: the fields that hold one value, each as one text. */
import { InputError } from '../../common/errors.ts';

/** Values that fields of metadata must equal, e.g. `{ section: 'graphics' }`; the type counts, 1 is not '1'. */
export type MetadataFilter = Readonly<Record<string, string | number | boolean>>;

/** `field=value in JSON` of each field that holds a text, a number or a boolean. */
export function facetsOf(metadata: unknown): string[] {
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return [];
  return Object.entries(metadata).flatMap(([field, value]) => (isValue(value) ? [facet(field, value)] : []));
}

/**
 * What all of a document's facets must include.
 * @throws InputError where a value is not one that a field can equal
 */
export function wantedFacets(filter: MetadataFilter | undefined): string[] {
  return Object.entries(filter ?? {}).map(([field, value]) => {
    if (isValue(value)) return facet(field, value);
    throw new InputError({
      code: 'search.filter',
      subject: `the filter's field '${field}'`,
      expected: 'a text, a finite number or a boolean that the field equals',
      received: JSON.stringify(value) ?? String(value),
    });
  });
}

const isValue = (value: unknown): value is string | number | boolean =>
  typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));

const facet = (field: string, value: string | number | boolean): string => `${field}=${JSON.stringify(value)}`;
