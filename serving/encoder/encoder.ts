/** @file An encoder for programs: texts as queries or documents to the vectors that training and evaluation use. */
import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import type { Computing } from '../../engine/runtime/provider.ts';
import { isSparseFolder } from '../../models/sparse/sparse-folder.ts';
import { cutTo } from '../../retrieval/exact-search.ts';
import { dualEncoderKey } from '../../teachers/dual-encoder.ts';
import { isVectorFile } from '../../teachers/vectors/read-vectors.ts';
import { vectorsEmbedder, vectorsKey } from '../../teachers/vectors/vectors-embedder.ts';
import { dtypeFiles, openInherited, type Provenance, readProvenance } from './checkpoint.ts';
import { openFileEncoder } from './file-encoder.ts';
import { type Tokens, tokensOf } from './text-tokens.ts';

/** The file of a checkpoint to open, and the truncation of texts. */
export interface OpenEncoderOptions {
  /** Which file of the folder: fp32, fp16, int8, q4, ..., or static-int8; the folder's own by default. */
  dtype?: string;
  /**
   * Of a student that was trained with `train.exits`: the number of layers after which it ends, one of these. The vectors are compared
   * with the same documents. All layers by default.
   */
  exit?: number;
  /** Tokens of a query and of a document, special tokens included; as in the run that made the checkpoint by default. */
  queryTokens?: number;
  documentTokens?: number;
  /**
   * What embeds the documents of a student of queries alone, where its distill.json names another place: the folder of a
   * dual-encoder, or a file of vectors by id.
   */
  documents?: string;
  /**
   * Where texts are encoded: 'cpu' by default; 'cuda' or 'webgpu', or 'auto' for the fastest that is there. Files in int8, q4 or
   * float16 and static ones compute on the CPU.
   */
  provider?: Computing['provider'];
}

/** What an open encoder is. */
export interface EncoderDetails {
  /** Of its folder. */
  name: string;
  /** The type that most of its weights are stored in: float32, float16, int8, ... */
  dtype: string;
  /** How token vectors become one; `graph` where the file does so and the folder does not say how, `splade` for a sparse student. */
  pooling: string;
  /** Tokens that a query and a document are cut at. */
  queryTokens: number;
  documentTokens: number;
  /** Padded tokens that are encoded at once, unless one text has more. */
  batchTokens: number;
}

/** An open encoder. Dispose of it when it is not needed any more. */
export interface OpenEncoder extends Tokens {
  /** The checkpoint's folder. */
  readonly folder: string;
  /** Width of the vectors. */
  readonly dimensions: number;
  /** Hash of the model's bytes, its tokenizer, pooling, prompts and limits: equal keys give equal query vectors. */
  readonly key: string;
  /** The same of documents. */
  documentsKey(): Promise<string>;
  /** The model, or the file of vectors, that embeds documents; absent where the encoder does so itself. */
  readonly documentsFrom?: string;
  /** Notes on assumptions made and parts ignored when the folder was read. */
  readonly notes: readonly string[];
  /** What it is, for those that ask a server. */
  describe(): Promise<EncoderDetails>;
  /**
   * @param texts the texts alone: prompts that the model has are put around them
   * @returns [n, dimensions] row-major
   */
  embedQueries(texts: readonly string[] | Texts, watch?: RunControl): Promise<Float32Array>;
  /** As `embedQueries`, of documents. A title, where there is one, is put before the text with a space. */
  embedDocuments(texts: readonly string[] | Texts, watch?: RunControl): Promise<Float32Array>;
  /** Frees the session. */
  dispose(): Promise<void>;
}

const STATIC_DTYPE = 'static-int8';
const STATIC_FILE = 'static.safetensors';

/**
 * Opens a checkpoint's encoder. Vectors are those of `distill evaluate`: the same prompts, limits and scaling. A student that was
 * trained to search another encoder's documents has that encoder embed documents; it is opened when the first document comes.
 *
 * @param path a checkpoint or another model folder, or one file of it: an .onnx file or static.safetensors
 * @throws InputError where the folder or the file is missing, or is not an encoder
 */
export async function openEncoder(path: string, options: OpenEncoderOptions = {}): Promise<OpenEncoder> {
  if (isSparseFolder(path))
    throw new InputError({
      code: 'encoder.sparse',
      subject: `${path} is a sparse student, which gives weights over its vocabulary and no vectors`,
      remedy: 'open it with openSparseEncoder, or name the checkpoint of a dense student',
    });
  const { folder, file } = await fileOf(
    path,
    options.exit === undefined ? options.dtype : await exitOf(path, options.exit, options.dtype),
  );
  const made = await readProvenance(folder, options);
  const encoder = await openFileEncoder(file, options.provider);
  const { dimensions } = encoder;
  const { queryTokens, documentTokens, inherits } = made;
  const embed = (role: 'query' | 'document', maxLength: number | undefined) => {
    const stage = `embed ${role === 'query' ? 'queries' : 'documents'}`;
    return (texts: readonly string[] | Texts, watch: RunControl = {}): Promise<Float32Array> =>
      encoder.encode(texts, { ...watch, maxLength, role, stage });
  };
  const keyOf = (role: 'query' | 'document', maxLength: number | undefined): string =>
    hashParts(role, encoder.key, encoder.settings, String(maxLength), JSON.stringify(encoder.prompts[role]));
  const documentsKey = keyOf('document', documentTokens);
  const other = made.elsewhere || inherits ? inherited(made, dimensions, options.provider) : undefined;
  return {
    ...tokensOf(encoder.tokenizer, encoder.prompts),
    folder,
    dimensions,
    key: keyOf('query', queryTokens),
    documentsKey: other ? other.key : async () => documentsKey,
    documentsFrom: inherits?.model,
    notes: encoder.notes ?? [],
    describe: async () => ({
      name: basename(resolve(folder)),
      dtype: await encoder.dtype(),
      pooling: encoder.pooling,
      queryTokens: encoder.limit(queryTokens),
      documentTokens: encoder.limit(documentTokens),
      batchTokens: encoder.batchTokens,
    }),
    embedQueries: embed('query', queryTokens),
    embedDocuments: other ? other.embed : embed('document', documentTokens),
    async dispose() {
      await encoder.dispose();
      await other?.dispose();
    },
  };
}

/** What embeds the documents of a student of queries, opened when it is asked for the first time. */
function inherited(
  { inherits, elsewhere }: Provenance,
  dimensions: number,
  provider: Computing['provider'] | undefined,
) {
  let opened: ReturnType<typeof openInherited> | undefined;
  const named = (): NonNullable<Provenance['inherits']> => {
    if (inherits && !elsewhere) return inherits;
    throw new InputError({
      code: 'encoder.documents',
      subject:
        'this is a query tower, and the documents that it searches were embedded by a service or come from files',
      remedy:
        'name a file of their vectors (.npy, .safetensors, .parquet, .jsonl): --documents, or the option documents',
    });
  };
  return {
    async key(): Promise<string> {
      const { model, ...limits } = named();
      return isVectorFile(model) ? vectorsKey({ files: model }) : dualEncoderKey(model, limits);
    },
    async embed(texts: readonly string[] | Texts, watch: RunControl = {}): Promise<Float32Array> {
      const { model, ...limits } = named();
      opened ??= isVectorFile(model)
        ? vectorsEmbedder({ files: model })
        : openInherited(model, limits, provider, watch);
      return cutTo(dimensions, await (await opened).embed(texts, 'document', watch));
    },
    dispose: async () => (await opened?.catch(() => undefined))?.dispose(),
  };
}

/** The name of the file of an exit. @throws InputError where the folder has no such exit */
async function exitOf(path: string, exit: number, dtype = 'fp32'): Promise<string> {
  const name = `exit${exit}${dtype === 'fp32' ? '' : `_${dtype}`}`;
  const isFile = existsSync(path) && statSync(path).isFile();
  const exits = isFile ? [] : (await dtypeFiles(path, 'all')).filter((f) => f.dtype.startsWith('exit'));
  if (exits.some((f) => f.dtype === name)) return name;
  throw new InputError({
    code: 'encoder.exit',
    subject: isFile
      ? `${path} is one file, and the exit ${exit} is given`
      : `${path} has no exit after ${exit} layers${dtype === 'fp32' ? '' : ` of dtype '${dtype}'`}`,
    expected: exits.length ? exits.map((f) => f.dtype).join(', ') : undefined,
    remedy: isFile
      ? 'give the folder with the exit, or the file alone'
      : exits.length
        ? 'choose one of these, or leave the exit out for all layers'
        : "train a query tower with 'train.exits', or leave the exit out",
  });
}

/** @throws InputError where there is no file of the dtype */
async function fileOf(path: string, dtype: string | undefined): Promise<{ folder: string; file: string }> {
  if (existsSync(path) && statSync(path).isFile()) {
    if (dtype !== undefined)
      throw new InputError({
        code: 'encoder.dtype',
        subject: `${path} is one file, and the dtype '${dtype}' is given`,
        remedy: 'give the folder with the dtype, or the file alone',
      });
    const parent = join(path, '..');
    return { folder: path.endsWith('.onnx') && /[\\/]onnx$/.test(parent) ? join(parent, '..') : parent, file: path };
  }
  const fixed = join(path, STATIC_FILE);
  const onlyStatic = dtype === undefined && existsSync(fixed) && !existsSync(join(path, 'onnx'));
  if (dtype === STATIC_DTYPE || onlyStatic) {
    if (existsSync(fixed)) return { folder: path, file: fixed };
    throw new InputError({
      code: 'encoder.static',
      subject: `${path} has no ${STATIC_FILE}`,
      remedy: 'export it first: distill export --dtype static-int8, of a student with a static query tower',
    });
  }
  const [{ file }] = await dtypeFiles(path, dtype);
  return { folder: path, file };
}
