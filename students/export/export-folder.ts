/** @file An export as a folder: the files of every dtype, the tokenizer cut and limited, what the loaders of each tool read. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { wholeTokenizer } from '../../data/tokens/read-files.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { exitGraph } from '../../engine/passes/exits.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';
import { hiddenSize, type ModelFolder, readJson } from '../../models/model-folder.ts';
import type { Head } from '../../models/modules/head.ts';
import { torchFamily } from '../architectures/index.ts';
import { loadStudent } from '../encoder-student.ts';
import type { Student } from '../student.ts';
import { compact } from './compress.ts';
import { type DTypeName, type ExportDType, exitFile, fileNames } from './dtypes.ts';
import { cutOutputs, saysNothing } from './outputs.ts';
import { STATIC_FILE, staticFile, staticTables } from './static-file.ts';
import { factorise, keepRows } from './tables.ts';
import { huggingFaceWeights } from './torch-names.ts';
import {
  cutVocabulary,
  renumberConfig,
  type TokenizerJson,
  tokenizerConfig,
  vocabTxt,
  withLimits,
} from './vocabulary.ts';

export interface ExportFolderOptions {
  dtypes: readonly DTypeName[];
  dimensions?: number;
  /** Ids that texts use, where the vocabulary is cut to them. */
  used?: ReadonlySet<number>;
  /** Further pieces kept where it is cut. */
  reserve?: number;
  tableRank?: number;
  tables?: ExportDType;
  half?: 'compute' | 'storage';
  /** Whether texts cut off without their last special token get it back inside the graph, unless its row is 0. */
  seal?: boolean;
  safetensors?: boolean;
  /** Opset of the ONNX files; as the checkpoint's by default. */
  opset?: number;
}

export interface ExportedFolder {
  student: Student;
  /** `exit`: of a student with exits, the number of layers after which the file's model ends. */
  files: { dtype: DTypeName; file: string; bytes: number; exit?: number }[];
  /** New ids to old, where the vocabulary was cut. */
  kept?: Int32Array;
  /** Share of the word table's squared length that the factorised one keeps. */
  tableShare?: number;
  /** Opset of the ONNX files. */
  opset: number;
  /** Why model.safetensors was not written. */
  safetensorsProblem?: string;
}

/**
 * Writes a checkpoint's compact form.
 * @param card README.md
 * @param provenance entries of distill.json in addition to the checkpoint's own
 * @throws InputError where the checkpoint cannot be read or an option does not fit it
 */
export async function exportFolder(
  checkpoint: string,
  output: string,
  options: ExportFolderOptions,
  provenance: Record<string, unknown> = {},
): Promise<ExportedFolder> {
  const student = await loadStudent(checkpoint, { onlySaved: true });
  const { folder, tokenizer } = student;
  const whole = (await wholeTokenizer(folder.folder)) as unknown as TokenizerJson;
  const maxLength = Math.min(student.maxLength, student.positions);
  const cut = options.used && cutVocabulary(whole, options.used, options.reserve ?? 0, tokenizer.padId);
  const json = withLimits(cut?.tokenizer ?? whole, maxLength);
  const graph = await student.inferenceGraph(new Map());
  if (cut) keepRows(graph, cut.kept);
  const newId = (id: number): number => cut?.kept.indexOf(id) ?? id;
  const around = tokenizer.around;
  const last = around.after.at(-1);
  // In place of a text's last word it would take that away and add nothing.
  const closing = last === undefined || saysNothing(graph, newId(last)) ? undefined : newId(last);
  const named =
    options.dimensions !== undefined
      ? { problem: 'a PyTorch model of the family has no cut dimensions' }
      : options.tableRank !== undefined
        ? { problem: 'a PyTorch model of the family has no factorised table' }
        : huggingFaceWeights(graph, torchFamily(folder.config));
  const tableShare = options.tableRank === undefined ? undefined : factorise(graph, options.tableRank);
  const width = outputWidth(graph, student.head, folder);
  const behind = cutOutputs(student.head, width, options.dimensions ?? Number.POSITIVE_INFINITY);
  const stated = await readJson(join(folder.folder, 'distill.json'));
  const exits = exitsIn(stated);
  const files = new Map<string, Uint8Array | string>();
  const made: ExportedFolder['files'] = [];
  for (const dtype of options.dtypes) {
    if (dtype === 'static-int8') {
      const bytes = staticFile(graph, {
        tokenizer: json,
        before: around.before.map(newId),
        after: around.after.map(newId),
        maxLength,
        dimensions: options.dimensions,
        prompts: student.prompts,
      });
      files.set(STATIC_FILE, bytes);
      made.push({ dtype, file: STATIC_FILE, bytes: bytes.length });
      continue;
    }
    const settings = {
      dtype,
      tables: options.tables,
      half: options.half,
      head: student.head,
      width,
      dimensions: options.dimensions,
      opset: options.opset,
      positions: student.positions,
      separator: options.seal === false ? undefined : closing,
    };
    const bytes = await compact(graph, settings);
    for (const name of fileNames[dtype]) files.set(`onnx/${name}`, bytes);
    made.push({ dtype, file: `onnx/${fileNames[dtype][0]}`, bytes: bytes.length });
    for (const exit of exits) {
      const early = await compact(exitGraph(graph, exit), settings);
      files.set(exitFile(exit, dtype), early);
      made.push({ dtype, file: exitFile(exit, dtype), bytes: early.length, exit });
    }
  }
  const text = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
  const ownConfig = await readJson(join(folder.folder, 'tokenizer_config.json'));
  files.set('tokenizer.json', JSON.stringify(json));
  files.set('tokenizer_config.json', text(tokenizerConfig(ownConfig, maxLength, cut?.kept)));
  const pieces = cut && vocabTxt(json);
  if (pieces) files.set('vocab.txt', pieces);
  if (options.safetensors !== false && 'weights' in named)
    files.set('model.safetensors', encodeSafetensors(named.weights, { format: 'pt' }));
  await writeCheckpoint(output, {
    tokenizerFrom: folder.folder,
    // These are the whole vocabulary in other forms; tokenizer.json says all that loaders need.
    withoutTokenizerFiles: cut ? ['vocab.json', 'merges.txt', 'sentencepiece.bpe.model', 'added_tokens.json'] : [],
    files,
    config: cut ? renumberConfig(folder.config, cut.kept) : folder.config,
    head: behind.head,
    prompts: student.prompts,
    similarity: student.similarity,
    lowerCase: student.lowerCase,
    tokenWidth: behind.tokens,
    maxLength,
    provenance: { ...stated, export: provenance },
    card: await readFile(join(folder.folder, 'README.md'), 'utf8').catch(() => ''),
  });
  return {
    student,
    files: made,
    kept: cut?.kept,
    tableShare,
    opset: options.opset ?? graph.opset,
    safetensorsProblem: 'problem' in named ? named.problem : undefined,
  };
}

/** The exits that a checkpoint was trained with, as its distill.json says. @throws InputError where they are no numbers */
function exitsIn(provenance: Record<string, unknown>): readonly number[] {
  const { config } = provenance as { config?: { train?: { exits?: unknown } } };
  const exits = config?.train?.exits ?? [];
  if (Array.isArray(exits) && exits.every(Number.isInteger)) return exits;
  throw new InputError({
    code: 'export.exits',
    subject: "'config.train.exits' of distill.json",
    expected: 'numbers of layers',
    received: JSON.stringify(exits).slice(0, 80),
    remedy: 'correct it, or remove it to export the whole model alone',
  });
}

/** Width of the token vectors, as the graph says or else the modules or config.json. @throws InputError where none does */
function outputWidth(graph: Graph, head: Head, { folder, config }: ModelFolder): number {
  const hidden = graph.outputs.find((v) => v.name === 'last_hidden_state' || v.name === 'token_embeddings');
  const stated = hidden?.dims?.at(-1);
  const dense = head.modules.find((m) => m.kind === 'dense');
  const said = dense?.kind === 'dense' ? dense.weight.dims[1] / head.pooling.length : hiddenSize(config);
  const width = typeof stated === 'number' ? stated : (staticTables(graph)?.rows.dims[1] ?? said);
  if (width !== undefined) return width;
  throw new InputError({
    code: 'export.width',
    subject: `neither the graph nor config.json of ${folder} says how wide its token vectors are`,
    expected: 'hidden_size in config.json',
    remedy: 'add it to config.json',
  });
}
