/** @file Makes an untrained model: graph, random weights and a vocabulary learned from the data, as a model folder. */
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { replaceFolder } from '../common/replace.ts';
import type { Texts } from '../data/dataset.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { encodeGraph } from '../engine/io/onnx-file.ts';
import { Random } from '../math/random.ts';
import { appendHead, type BertOptions, bertGraph } from './bert.ts';
import { tokenizerConfig, tokenizerJson, trainWordPiece } from './wordpiece.ts';

/** Shape of a new, untrained encoder. */
export interface FreshOptions {
  /** Most tokens of the vocabulary; small data gives fewer. */
  vocabulary?: number;
  hidden?: number;
  layers?: number;
  heads?: number;
  /** 4 x hidden by default. */
  intermediate?: number;
  /** Positions: the longest text, or pair of texts, in tokens. */
  maxLength?: number;
  seed?: number;
  /** Output of the model: token vectors (`encoder`), or one logit per pair (`cross-encoder`). */
  kind?: 'encoder' | 'cross-encoder';
}

/**
 * Writes a model folder with onnx/model.onnx, config.json and tokenizer files. The same texts and options give the same bytes.
 * @param texts the texts from which the vocabulary is learned
 * @throws InputError where the width cannot be shared among the heads
 */
export async function freshModel(folder: string, texts: Texts, options: FreshOptions = {}): Promise<void> {
  const { hidden = 128, layers = 2, heads = 4, maxLength = 256, seed = 0, kind = 'encoder' } = options;
  if (hidden % heads)
    throw new InputError({
      code: 'student.heads',
      subject: `a width of ${hidden} cannot be shared among ${heads} heads`,
      remedy: 'choose a width that is a multiple of the heads',
    });
  const vocabulary = trainWordPiece(texts, { size: options.vocabulary ?? 8192 });
  const bert: BertOptions = {
    vocabularySize: vocabulary.length,
    hidden,
    layers,
    heads,
    intermediate: options.intermediate ?? 4 * hidden,
    maxLength,
  };
  const classifier = kind === 'cross-encoder';
  const prefix = classifier ? 'bert.' : '';
  const graph = bertGraph(bert, Random.of(seed, 'fresh'), prefix);
  if (classifier) appendHead(graph, hidden, Random.of(seed, 'head'), prefix);
  const config = bertConfig(bert, classifier);
  await writeNewModel(folder, { graph, config, vocabulary, maxLength, encoder: !classifier });
}

/** A new model of any architecture. */
export interface NewModel {
  /** Ids and mask in; token vectors (`last_hidden_state`) or logits out. */
  graph: Graph;
  /** config.json. */
  config: Record<string, unknown>;
  /** WordPiece tokens by their ids. */
  vocabulary: readonly string[];
  /** Tokens of the longest text. */
  maxLength: number;
  /** Whether it gives vectors of texts. */
  encoder: boolean;
}

/** Writes a model folder that is whole or absent: onnx/model.onnx, config.json and the tokenizer's files. */
export async function writeNewModel(
  folder: string,
  { graph, config, vocabulary, maxLength, encoder }: NewModel,
): Promise<void> {
  const json = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
  const files: Record<string, string | Uint8Array> = {
    'onnx/model.onnx': encodeGraph(graph),
    'config.json': json(config),
    'tokenizer.json': json(tokenizerJson(vocabulary)),
    'tokenizer_config.json': json(tokenizerConfig(maxLength)),
    'vocab.txt': `${vocabulary.join('\n')}\n`,
    ...(encoder ? { 'sentence_bert_config.json': json({ max_seq_length: maxLength, do_lower_case: false }) } : {}),
  };
  await replaceFolder(folder, async (temporary) => {
    for (const [name, content] of Object.entries(files)) await writeWhole(join(temporary, name), content);
  });
}

/** config.json as Hugging Face's BertConfig reads it. */
const bertConfig = (o: BertOptions, classifier: boolean): Record<string, unknown> => ({
  architectures: [classifier ? 'BertForSequenceClassification' : 'BertModel'],
  model_type: 'bert',
  vocab_size: o.vocabularySize,
  hidden_size: o.hidden,
  num_hidden_layers: o.layers,
  num_attention_heads: o.heads,
  intermediate_size: o.intermediate,
  max_position_embeddings: o.maxLength,
  type_vocab_size: 2,
  hidden_act: 'gelu',
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
  layer_norm_eps: 1e-12,
  initializer_range: 0.02,
  pad_token_id: 0,
  position_embedding_type: 'absolute',
  ...(classifier ? { num_labels: 1, id2label: { 0: 'LABEL_0' }, label2id: { LABEL_0: 0 } } : {}),
});
