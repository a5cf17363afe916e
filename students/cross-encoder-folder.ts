/** @file A cross-encoder as a folder that transformers, transformers.js and this toolkit load as a teacher. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeWhole } from '../common/files.ts';
import { refuseOccupied } from './checkpoint.ts';

export interface CrossEncoderFolder {
  /** The bytes of onnx/model.onnx. */
  model: Uint8Array;
  /** Folder that tokenizer files are copied from. */
  tokenizerFrom: string;
  /** config.json of the model it started from. */
  config: Record<string, unknown>;
  /** distill.json: what made it. */
  provenance: Record<string, unknown>;
}

const tokenizerFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  'sentencepiece.bpe.model',
];

/**
 * Writes the folder beside its place and renames it.
 * @throws InputError where something else than a model of this toolkit stands there
 */
export async function writeCrossEncoder(folder: string, from: CrossEncoderFolder): Promise<void> {
  await refuseOccupied(folder);
  const beside = `${folder}.${process.pid}.part`;
  const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
  try {
    await mkdir(beside, { recursive: true });
    for (const name of tokenizerFiles)
      if (existsSync(join(from.tokenizerFrom, name)))
        await copyFile(join(from.tokenizerFrom, name), join(beside, name));
    await writeWhole(join(beside, 'onnx', 'model.onnx'), from.model);
    await writeWhole(join(beside, 'config.json'), json(classifierConfig(from.config)));
    await writeWhole(join(beside, 'distill.json'), json(from.provenance));
    await mkdir(dirname(folder), { recursive: true });
    await rm(folder, { recursive: true, force: true });
    await rename(beside, folder);
  } catch (cause) {
    await rm(beside, { recursive: true, force: true });
    throw cause;
  }
}

/** An encoder's config.json as that of a classifier with one logit: BertModel becomes BertForSequenceClassification. */
function classifierConfig(config: Record<string, unknown>): Record<string, unknown> {
  const architectures = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  return {
    ...config,
    architectures: architectures.map((a) => a.replace(/(Model|For\w+)$/, 'ForSequenceClassification')),
    num_labels: 1,
    id2label: { 0: 'LABEL_0' },
    label2id: { LABEL_0: 0 },
  };
}
