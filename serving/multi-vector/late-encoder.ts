/** @file A checkpoint's re-ranker in use: token vectors of queries and of documents, and scores of pairs. */
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import type { Rows } from '../../math/numbers.ts';
import { openTokenEncoder, type TokenEncoder } from '../../models/multi-vector/token-encoder.ts';
import { readLateFolder } from '../../students/late/late-folder.ts';
import { LATE, type LateSettings } from '../../students/late/late-model.ts';
import { readProvenance } from '../encoder/checkpoint.ts';

/** Where the checkpoint's parts are, and where it computes. */
export interface LateEncoderOptions {
  /** Folder of the dual-encoder of the documents, where the checkpoint's queries have an encoder of their own and it was moved. */
  documents?: string;
  session?: SessionOptions;
}

/** A text as the re-ranker compares it. */
export interface LateText {
  /** [n, dimensions] token vectors at unit length. */
  tokens: Rows;
  /** Ids of these tokens. */
  ids: Int32Array;
  /** The vector of the whole text, as the dual-encoder gives it. */
  vector: Float32Array;
}

/** An open re-ranker of late interaction. Dispose of it when it is not needed any more. */
export interface LateEncoder {
  readonly settings: LateSettings;
  /** Of the query encoder, the projections and the scorer. */
  readonly key: string;
  /** Of the token vectors of documents: equal keys give equal vectors of equal texts. */
  documentsKey(): Promise<string>;
  readonly notes: readonly string[];
  queries(texts: readonly string[], watch?: RunControl): Promise<LateText[]>;
  /** @param each called for each text, in no fixed order */
  documents(texts: Texts, each: (at: number, text: LateText) => void, watch?: RunControl): Promise<void>;
  /** @param first the product of the whole vectors, or the score of the stage that found the document */
  score(query: Rows, document: Rows, first: number): number;
  /** Whether the ids of a document's tokens are those of these texts, such as punctuation marks. */
  idsOf(texts: readonly string[]): Promise<ReadonlySet<number>>;
  dispose(): Promise<void>;
}

/** @throws InputError where the folder holds no re-ranker, or its document encoder is not there */
export async function openLateEncoder(folder: string, options: LateEncoderOptions = {}): Promise<LateEncoder> {
  const { model, file, key } = await readLateFolder(folder);
  const made = await readProvenance(folder, { documents: options.documents });
  const { session } = options;
  const { weights, settings } = model;
  const queryMap = weights.get(LATE.queryProjection) ?? weights.get(LATE.projection);
  const queries = await openTokenEncoder(folder, { projection: queryMap, session });
  let other: Promise<TokenEncoder> | undefined;
  const documents = (): Promise<TokenEncoder> => {
    const own = weights.has(LATE.queryProjection);
    if (own && !made.inherits)
      throw new InputError({
        code: 'multi-vector.documents',
        subject: `the queries of ${folder} have an encoder of their own, and distill.json does not say which encodes documents`,
        remedy: 'name the folder of the dual-encoder of its documents',
      });
    const [from, prompts] = own && made.inherits ? [made.inherits.model, made.inherits.prompts] : [folder, undefined];
    other ??= openTokenEncoder(from, { projection: weights.get(LATE.projection), prompts, session });
    return other;
  };
  return {
    settings,
    key: hashParts('late', key, queries.key),
    documentsKey: async () => hashParts('late documents', key, (await documents()).key),
    notes: queries.notes,
    async queries(texts, watch = {}) {
      const found: LateText[] = Array(texts.length);
      const table = { length: texts.length, text: (i: number) => texts[i] };
      const limits = { role: 'query' as const, maxLength: file.reads.query, keep: settings.queryTokens };
      await queries.encode(table, { ...watch, ...limits, stage: 'token vectors of queries' }, (t) => {
        found[t.at] = lateText(t, settings);
      });
      return found;
    },
    async documents(texts, each, watch = {}) {
      const limits = { role: 'document' as const, maxLength: file.reads.document, keep: settings.documentTokens };
      const encoder = await documents();
      await encoder.encode(texts, { ...watch, ...limits, stage: 'token vectors of documents' }, (t) =>
        each(t.at, lateText(t, settings)),
      );
    },
    score: (query, document, first) => model.score(query, document, first),
    async idsOf(texts) {
      const { tokenizer } = await documents();
      return new Set(texts.flatMap((text) => tokenizer.plain(text)));
    },
    async dispose() {
      await queries.dispose();
      await (await other)?.dispose();
    },
  };
}

const lateText = (
  { ids, tokens, vector }: { ids: Int32Array; tokens: Float32Array; vector: Float32Array },
  { dimensions }: LateSettings,
): LateText => ({ ids, tokens: { dimensions, data: tokens }, vector });

/** The product of two vectors. */
export function product(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  for (let k = 0; k < a.length; k++) dot += a[k] * b[k];
  return dot;
}
