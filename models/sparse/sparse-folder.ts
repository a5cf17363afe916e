/**
 * @file The folder of a sparse student, as sentence-transformers' SparseEncoder lays out a model whose queries need no inference: a
 * router to a table of query weights, and to a masked-language model with SPLADE pooling.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { replaceFolder } from '../../common/replace.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { firstNotFinite } from '../../math/finite.ts';
import { completeTokenizer, copyTokenizer, refuseOccupied } from '../checkpoint.ts';
import { noPrompts, type Prompts } from '../modules/prompts.ts';
import { SparseEncoder } from './sparse-encoder.ts';

const ROUTER = 'router_config.json';
const ABOUT = 'sparse.json';
const FORMAT = 'onnx-distill-sparse-1';
/** Files of the graph by the type of their weights, in the folder onnx. */
export const SPARSE_FILES = { fp32: 'model.onnx', int8: 'model_quantized.onnx' } as const;
const PARTS = {
  query: 'query_0_SparseStaticEmbedding',
  document: 'document_0_MLMTransformer',
  pooling: 'document_1_SpladePooling',
} as const;
const TYPES = {
  [PARTS.query]: 'sentence_transformers.sparse_encoder.models.SparseStaticEmbedding',
  [PARTS.document]: 'sentence_transformers.sparse_encoder.models.MLMTransformer',
  [PARTS.pooling]: 'sentence_transformers.sparse_encoder.models.SpladePooling',
};

/** What is saved. */
export interface SparseCheckpoint {
  /** The bytes of the graph from ids and mask to weights [batch, V]. */
  model: Uint8Array;
  /** The same in int8. */
  int8: Uint8Array;
  /** [V] */
  queries: Float32Array;
  /** Whether those were trained. */
  learned: boolean;
  /** The weights of PyTorch's masked-language model by their names there, and its config; absent where they are not known. */
  torch?: { weights: ReadonlyMap<string, Tensor>; config: Record<string, unknown> };
  tokenizerFrom: string;
  lowerCase: boolean;
  prompts: Prompts;
  queryTokens: number;
  documentTokens: number;
  positions: number;
  config: Record<string, unknown>;
  provenance: Record<string, unknown>;
  card: string;
}

/** Writes the folder to a temporary path and swaps it in. @throws InputError where it contains something else */
export async function writeSparseFolder(folder: string, own: SparseCheckpoint): Promise<void> {
  await refuseOccupied(folder);
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const weight: Tensor = { dtype: 'float32', dims: [own.queries.length], data: own.queries };
  const files = new Map<string, string | Uint8Array>([
    ['onnx/model.onnx', own.model],
    [`onnx/${SPARSE_FILES.int8}`, own.int8],
    ['config.json', json(own.config)],
    ['README.md', own.card],
    ['distill.json', json(own.provenance)],
    [`${PARTS.query}/model.safetensors`, encodeSafetensors(new Map([['weight', weight]]), { format: 'pt' })],
    [`${PARTS.query}/config.json`, json({ frozen: !own.learned })],
    [
      ABOUT,
      json({
        format: FORMAT,
        queryTokens: own.queryTokens,
        documentTokens: own.documentTokens,
        positions: Number.isFinite(own.positions) ? own.positions : null,
        lowerCase: own.lowerCase,
        prompts: own.prompts,
      }),
    ],
  ]);
  if (own.torch) {
    const { weights, config } = own.torch;
    files.set('modules.json', json([{ idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Router' }]));
    files.set(
      ROUTER,
      json({
        types: TYPES,
        structure: { query: [PARTS.query], document: [PARTS.document, PARTS.pooling] },
        parameters: { default_route: 'document', allow_empty_key: true },
      }),
    );
    files.set(
      'config_sentence_transformers.json',
      json({
        model_type: 'SparseEncoder',
        prompts: { query: own.prompts.query.before ?? '', document: own.prompts.document.before ?? '' },
        default_prompt_name: null,
        similarity_fn_name: 'dot',
      }),
    );
    files.set(`${PARTS.document}/model.safetensors`, encodeSafetensors(new Map(weights), { format: 'pt' }));
    files.set(`${PARTS.document}/config.json`, json(config));
    files.set(
      `${PARTS.document}/sentence_bert_config.json`,
      json({ max_seq_length: own.documentTokens, do_lower_case: own.lowerCase }),
    );
    files.set(
      `${PARTS.pooling}/config.json`,
      json({ pooling_strategy: 'max', activation_function: 'relu', word_embedding_dimension: own.queries.length }),
    );
  }
  await replaceFolder(folder, async (temporary) => {
    for (const [name, content] of files) {
      await mkdir(dirname(join(temporary, name)), { recursive: true });
      await writeFile(join(temporary, name), content);
    }
    for (const part of ['.', PARTS.query, ...(own.torch ? [PARTS.document] : [])]) {
      await copyTokenizer(own.tokenizerFrom, join(temporary, part));
      await completeTokenizer(join(temporary, part), own.lowerCase);
    }
  });
}

/** Whether a folder holds a sparse student of this toolkit. */
export const isSparseFolder = (folder: string): boolean => existsSync(join(folder, ABOUT));

/** An open sparse student, and the limits that it was trained with. */
export interface OpenSparse {
  encoder: SparseEncoder;
  queryTokens: number;
  documentTokens: number;
}

/**
 * Opens a folder that `writeSparseFolder` wrote.
 * @param file of the graph, in its folder onnx
 * @throws InputError where it is another folder or version, or a file is missing
 */
export async function openSparseFolder(
  folder: string,
  { session, file = 'model.onnx' }: { session?: SessionOptions; file?: string } = {},
): Promise<OpenSparse> {
  const refuse = (why: string): InputError =>
    new InputError({
      code: 'sparse.folder',
      subject: `${folder} ${why}`,
      expected: 'a sparse student as distill run saves it',
      remedy: 'train one with student: { sparse: {} }',
    });
  const about = await readFile(join(folder, ABOUT), 'utf8')
    .then((text) => JSON.parse(text) as Record<string, unknown>)
    .catch(() => undefined);
  if (about?.format !== FORMAT) throw refuse(about ? `has a ${ABOUT} of another version` : `has no ${ABOUT}`);
  const limit = (name: string): number => {
    const value = about[name];
    if (!Number.isInteger(value) || (value as number) < 1) throw refuse(`has no whole number '${name}' in ${ABOUT}`);
    return value as number;
  };
  const [queryTokens, documentTokens] = [limit('queryTokens'), limit('documentTokens')];
  const [graphFile, weightFile] = [join(folder, 'onnx', file), join(folder, PARTS.query, 'model.safetensors')];
  for (const f of [graphFile, weightFile]) if (!existsSync(f)) throw refuse(`has no ${f.slice(folder.length + 1)}`);
  const weight = parseSafetensors(await readFile(weightFile), weightFile).get('weight');
  const tokenizer = await TextTokenizer.load(folder, { lowerCase: about.lowerCase === true });
  const encoder = await SparseEncoder.of(await loadGraph(graphFile), {
    tokenizer,
    queries: Float32Array.from((weight?.data ?? []) as Float32Array),
    prompts: (about.prompts as Prompts | undefined) ?? noPrompts,
    maxLength: documentTokens,
    positions: typeof about.positions === 'number' ? about.positions : Number.POSITIVE_INFINITY,
    session,
    name: graphFile,
  });
  if (weight?.data.length !== encoder.vocabulary) {
    await encoder.dispose();
    throw refuse(`has ${weight?.data.length ?? 0} query weights and documents of ${encoder.vocabulary} weights`);
  }
  const bad = firstNotFinite(encoder.queryTable);
  if (bad >= 0) {
    await encoder.dispose();
    throw refuse(`has a query weight that is not finite (of token ${bad})`);
  }
  return { encoder, queryTokens, documentTokens };
}
