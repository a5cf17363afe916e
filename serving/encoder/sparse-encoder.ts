/** @file The encoder of a sparse student for programs: documents to weights over the vocabulary, queries to weights of their tokens. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashFile, hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import { type Computing, computeFile, onCpuNote } from '../../engine/runtime/provider.ts';
import { type DocumentWeights, type QueryWeights, SPARSE_BATCH_TOKENS } from '../../models/sparse/sparse-encoder.ts';
import { openSparseFolder, SPARSE_FILES } from '../../models/sparse/sparse-folder.ts';
import type { EncoderDetails } from './encoder.ts';
import { storedType } from './file-encoder.ts';
import { type Tokens, tokensOf } from './text-tokens.ts';

/** The file of a sparse student to open, and the truncation of texts. */
export interface OpenSparseEncoderOptions {
  /** Which file of the folder: fp32, the default, or int8. */
  dtype?: string;
  /** Tokens of a query and of a document, special tokens of documents included; as in the run that made the folder by default. */
  queryTokens?: number;
  documentTokens?: number;
  /** Where documents are encoded: 'cpu' by default; as for dense students. */
  provider?: Computing['provider'];
}

/** An open sparse student. Dispose of it when it is not needed any more. */
export interface OpenSparseEncoder extends Tokens {
  /** Assumptions that were made when the folder was read. */
  readonly notes: readonly string[];
  /** Size of the vocabulary: token ids are below it. */
  readonly vocabulary: number;
  /** Hash of the query weights, the tokenizer, prompts and limits: equal keys give equal queries. */
  readonly key: string;
  /** The same of documents, with the bytes of the model. */
  documentsKey(): Promise<string>;
  /** What it is, for those that ask a server. */
  describe(): Promise<EncoderDetails>;
  /** A query's distinct tokens with their weights, without inference; one is given to each text. */
  queryWeights(texts: readonly string[]): QueryWeights[];
  /** Documents' weights above 0, row d from `offsets[d]` to `offsets[d + 1]`. A title is put before the text with a space. */
  documentWeights(texts: readonly string[] | Texts, watch?: RunControl): Promise<DocumentWeights>;
  /** Frees the session. */
  dispose(): Promise<void>;
}

/**
 * Opens a sparse student (`student: { sparse: {} }`).
 * @param folder the checkpoint
 * @throws InputError where it is no sparse student, or has no file of that dtype
 */
export async function openSparseEncoder(
  folder: string,
  { dtype = 'fp32', provider, ...limits }: OpenSparseEncoderOptions = {},
): Promise<OpenSparseEncoder> {
  const file = Object.hasOwn(SPARSE_FILES, dtype) ? SPARSE_FILES[dtype as keyof typeof SPARSE_FILES] : undefined;
  if (file === undefined || !existsSync(join(folder, 'onnx', file)))
    throw new InputError({
      code: 'sparse.dtype',
      subject: `${folder} has no file of dtype '${dtype}' of a sparse student`,
      expected: Object.keys(SPARSE_FILES).join(' or '),
      remedy: 'name one of these, or the checkpoint of a sparse student',
    });
  const session = await computeFile(file, provider);
  const note = onCpuNote(join(folder, 'onnx', file), provider);
  const { encoder, ...own } = await openSparseFolder(folder, { file, session });
  const { queryTokens = own.queryTokens, documentTokens = own.documentTokens } = limits;
  const { prompts, tokenizer, queryTable } = encoder;
  const { buffer, byteOffset, byteLength } = queryTable;
  const table = new Uint8Array(buffer, byteOffset, byteLength);
  const shared = [tokenizer.hash, String(tokenizer.modelMaxLength)];
  let documentsKey: Promise<string> | undefined;
  return {
    notes: note ? [note] : [],
    ...tokensOf(tokenizer, prompts),
    vocabulary: encoder.vocabulary,
    key: hashParts('sparse query', table, ...shared, JSON.stringify(prompts.query), String(queryTokens)),
    documentsKey() {
      documentsKey ??= hashFile(join(folder, 'onnx', file)).then((model) =>
        hashParts('sparse document', model, ...shared, JSON.stringify(prompts.document), String(documentTokens)),
      );
      return documentsKey;
    },
    describe: async () => ({
      name: basename(resolve(folder)),
      dtype: await storedType(join(folder, 'onnx', file)),
      pooling: 'splade',
      queryTokens,
      documentTokens,
      batchTokens: SPARSE_BATCH_TOKENS,
    }),
    queryWeights: (texts) => texts.map((text) => encoder.query(text, queryTokens)),
    documentWeights: (texts, watch = {}) =>
      encoder.documents(Array.isArray(texts) ? { length: texts.length, text: (i) => texts[i] } : (texts as Texts), {
        ...watch,
        maxLength: documentTokens,
      }),
    dispose: () => encoder.dispose(),
  };
}
