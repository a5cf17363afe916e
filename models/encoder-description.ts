/** @file Description of an encoder from its folder and options, without opening it, and the key of its vectors. */
import { createHash } from 'node:crypto';
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import type { Graph } from '../engine/graph/ir.ts';
import type { SessionOptions } from '../engine/runtime/session.ts';
import { type ModelFolder, modelHash, readModelFolder } from './model-folder.ts';
import { type Head, headWeights, withUnit } from './modules/head.ts';
import { promptKey } from './modules/prompts.ts';
import { isDotProduct, readSentenceFolder, type SentenceFolder, type SentenceOptions } from './sentence-folder.ts';

/** What overrides the model folder, and where it computes. */
export interface EncoderOptions extends SentenceOptions {
  /** Padded tokens per batch; by default depending on threads or device. */
  batchTokens?: number;
  session?: SessionOptions;
  /**
   * Whether the dot product of two vectors must be their similarity: then vectors of a folder whose similarity is cosine are
   * scaled to unit length. By default they are what sentence-transformers' encode gives.
   */
  comparable?: boolean;
  /** Changes the graph before it is loaded, e.g. its products to int8. The key is then the caller's to change. */
  rewrite?(graph: Graph, positions: number | undefined): Promise<void>;
}

/** Default where a model and its tokenizer name no limit. */
const UNLIMITED = 512;

/** An encoder as its folder and options describe it. */
export interface EncoderDescription extends SentenceFolder {
  files: ModelFolder;
  tokenizer: TextTokenizer;
  maxLength: number;
  /** Of the model's weights. */
  hash: string;
}

/** @throws InputError where a file is missing or not understood */
export async function describeEncoder(folder: string, options: EncoderOptions = {}): Promise<EncoderDescription> {
  const files = await readModelFolder(folder);
  const said = await readSentenceFolder(files, options);
  const tokenizer = await TextTokenizer.load(files.folder, { lowerCase: said.lowerCase });
  const limits = [files.maxLength, tokenizer.modelMaxLength].filter((n) => n !== undefined);
  const unlimited = `${folder} names no length that texts are cut at: they are cut at ${UNLIMITED} tokens; state max_seq_length in sentence_bert_config.json to cut elsewhere`;
  return {
    ...said,
    notes: limits.length ? said.notes : [...said.notes, unlimited],
    head: options.comparable ? comparableHead(said, files.folder) : said.head,
    files,
    tokenizer,
    maxLength: limits.length ? Math.min(...limits) : UNLIMITED,
    hash: await modelHash(files.model),
  };
}

/** @throws InputError where no scaling makes the dot product of two vectors their similarity */
function comparableHead({ head, similarity }: Pick<SentenceFolder, 'head' | 'similarity'>, folder: string): Head {
  if (similarity === 'cosine') return withUnit(head, true);
  if (isDotProduct(head, similarity)) return head;
  throw new InputError({
    code: 'model.similarity',
    subject: `${folder} compares vectors by their ${similarity} distance`,
    expected: 'cosine or dot, or euclidean with vectors of unit length',
    remedy: 'use a model with such a similarity: search and losses here use dot products',
  });
}

/** Equal keys give equal vectors of equal tokens. */
export const encoderKey = (
  d: Pick<EncoderDescription, 'hash' | 'head'> & { tokenizer: Pick<TextTokenizer, 'hash'> },
): string => hashParts(d.hash, d.tokenizer.hash, ...headKey(d.head));

/** Of everything but weights and tokenizer that vectors and their comparison depend on. */
export const sentenceKey = ({ head, prompts, similarity, lowerCase }: SentenceFolder): string =>
  hashParts(...headKey(head), promptKey(prompts.query, prompts.document), similarity, String(lowerCase));

/** A head as parts of a key; the weights of its modules by their bytes. */
function headKey({ pooling, includePrompt, modules }: Head): string[] {
  const shape = modules.map((m) => (m.kind === 'dense' ? `${m.kind} ${m.activation}` : m.kind));
  const weights = headWeights({ pooling, includePrompt, modules });
  const hash = createHash('sha256');
  for (const { data } of weights.values()) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [pooling.join('+'), String(includePrompt), shape.join(), weights.size ? hash.digest('hex') : ''];
}
