/** @file The manifest of an index folder: what its files are, and which documents of them are gone. */
import { InputError } from '../../common/errors.ts';
import { unsealed, unsealedReason } from '../../common/sealed.ts';
import type { Tuned } from '../tuned.ts';
import { checkSettings, type IndexSettings } from '../vector-index.ts';
import type { PartSizes } from './part-file.ts';
import type { PostingsAt } from './postings-file.ts';

export const FORMAT = 'onnx-distill-index-2';

/** A file of the folder. */
export interface NamedFile {
  name: string;
  count: number;
  /** sha256 of the file; of a part's, without its documents. */
  hash: string;
}

/** The file of a part, and those that belong to it. */
export interface PartFile extends NamedFile, PartSizes {
  name: string;
  hash: string;
  /** File of its graph, where it has one. */
  graph?: NamedFile;
  /** File of its postings, where the index keeps some. */
  terms?: PostingsAt;
}

/** What index.json says. */
export interface Manifest {
  format: typeof FORMAT;
  dimensions: number;
  settings: IndexSettings;
  encoder?: string;
  id?: string;
  /** File with what the encodings learned; absent before the first vectors. */
  learned?: NamedFile;
  parts: PartFile[];
  /** Positions, counted through all parts, of documents that were replaced or removed. */
  removed: number[];
  /** How the settings were found, where they were. */
  tuned?: Tuned;
  /** What the terms of postings are; absent in an index that keeps none. */
  terms?: string;
}

/** Names of the files that a manifest names. */
export const OWN_FILE = /^(part|learned|graph|terms)-[0-9a-f-]{36}\.bin$/;

/** @throws InputError where the file is not the manifest of an index of this version */
export function readManifest(text: string, file: string): Manifest {
  const damaged = (why: string): never => {
    throw new InputError({
      code: 'index.damaged',
      subject: `${file} is not an index of this version (${why})`,
      remedy: 'make the index again with distill index',
    });
  };
  const read = unsealed(text);
  if (!read.value) return damaged(unsealedReason(read, FORMAT));
  const value = read.value as Partial<Manifest>;
  if (value.format !== FORMAT) damaged(`format ${JSON.stringify(value.format)}, expected ${FORMAT}`);
  const isFile = (f: unknown): boolean => {
    const { name, count, hash, graph } = (f ?? {}) as Partial<PartFile>;
    return (
      typeof name === 'string' &&
      OWN_FILE.test(name) &&
      (graph === undefined || isFile(graph)) &&
      Number.isInteger(count) &&
      typeof hash === 'string'
    );
  };
  const { dimensions, settings, parts, removed, learned, tuned, terms } = value as Partial<Manifest>;
  if (terms !== undefined && typeof terms !== 'string') damaged('terms');
  if (!Number.isInteger(dimensions) || (dimensions as number) < (terms === undefined ? 1 : 0)) damaged('dimensions');
  const isPostings = (t: PostingsAt): boolean =>
    isFile({ ...t, count: 0 }) && Number.isInteger(t.lists) && Number.isInteger(t.bytes);
  const isPart = (p: PartFile): boolean =>
    isFile(p) &&
    Number.isInteger(p.head) &&
    Number.isInteger(p.bytes) &&
    (p.terms === undefined || isPostings(p.terms));
  if (!Array.isArray(parts) || !parts.every(isPart)) damaged('parts');
  if (!Array.isArray(removed) || !removed.every(Number.isInteger)) damaged('removed');
  if (learned !== undefined && !isFile(learned)) damaged('learned');
  if (typeof settings !== 'object' || settings === null) damaged('settings');
  if (tuned !== undefined && (typeof tuned?.goal !== 'object' || typeof tuned.heldOut !== 'object')) damaged('tuned');
  if (dimensions) checkSettings(settings as IndexSettings, dimensions);
  return value as Manifest;
}
