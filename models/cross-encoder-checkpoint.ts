/** @file A cross-encoder as a folder that transformers, transformers.js and this toolkit load as a teacher. */
import { join } from 'node:path';
import { writeWhole } from '../common/files.ts';
import { replaceFolder } from '../common/replace.ts';
import { completeTokenizer, copyTokenizer, refuseOccupied } from './checkpoint.ts';

export interface CrossEncoderFolder {
  /** The bytes of onnx/model.onnx. */
  model: Uint8Array;
  /** Folder that tokenizer files are copied from. */
  tokenizerFrom: string;
  /** Whether texts are put in lower case before the tokenizer reads them. */
  lowerCase?: boolean;
  /** Tokens of a pair that it was trained with: what it reads by default. */
  maxLength?: number;
  /** config.json of the model it started from. */
  config: Record<string, unknown>;
  /** distill.json: what made it. */
  provenance: Record<string, unknown>;
}

/**
 * Writes the folder to a temporary path and swaps it in.
 * @throws InputError if the folder contains something other than a model of this toolkit
 */
export async function writeCrossEncoder(folder: string, from: CrossEncoderFolder): Promise<void> {
  await refuseOccupied(folder);
  const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
  await replaceFolder(folder, async (temporary) => {
    await copyTokenizer(from.tokenizerFrom, temporary);
    await writeWhole(join(temporary, 'onnx', 'model.onnx'), from.model);
    await writeWhole(join(temporary, 'config.json'), json(classifierConfig(from.config)));
    await completeTokenizer(temporary, from.lowerCase);
    // The tokenizer has the lower case.
    if (from.maxLength)
      await writeWhole(
        join(temporary, 'sentence_bert_config.json'),
        json({ max_seq_length: from.maxLength, do_lower_case: false }),
      );
    await writeWhole(join(temporary, 'distill.json'), json(from.provenance));
  });
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
