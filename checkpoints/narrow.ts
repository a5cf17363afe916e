/** @file Makes a dual-encoder narrower: of each layer some attention heads and hidden units, which Sequential Attention chooses. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { VERSION } from '../common/version.ts';
import { absolute } from '../config/paths.ts';
import { padBatch } from '../data/batches.ts';
import { openAsRun } from '../data/open.ts';
import { encodeGraph } from '../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../engine/io/safetensors.ts';
import { Random } from '../math/random.ts';
import { writeCheckpoint } from '../models/checkpoint.ts';
import { describeEncoder } from '../models/encoder.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { tokenWidth } from '../models/modules/head.ts';
import { readProvenance } from '../serving/encoder/checkpoint.ts';
import { torchFamily } from '../students/architectures/index.ts';
import { loadStudent } from '../students/encoder-student.ts';
import { huggingFaceWeights } from '../students/export/torch-names.ts';
import { type Kept, narrow as narrowGraph, widthsOf } from '../students/narrow/narrow.ts';
import { selectUnits } from '../training/select-units.ts';

/** Which encoder is made how narrow, on which texts. */
export interface NarrowOptions {
  /** Folder of a dual-encoder. */
  model: string;
  /** Data set whose documents and queries are read; its judgements are not. */
  data: string;
  output: string;
  /** Heads and hidden units that each layer keeps; all of them by default. */
  heads?: number;
  units?: number;
  /** Texts of a step, and gradients that decide a phase. */
  batchSize?: number;
  rounds?: number;
  /** Tokens that texts are cut at. */
  tokens?: number;
  seed?: number;
}

/** What was kept. */
export interface NarrowReport {
  /** The model folder written. */
  output: string;
  /** Bytes of the ONNX file, before and after. */
  bytes: { before: number; after: number };
  kept: readonly Kept[];
  seconds: number;
}

/**
 * Writes the model with smaller matrices: a student to train, whose vectors are those of the model with the other heads and units
 * switched off.
 * @throws InputError where the model gives no token vectors, or its layers have another form than BERT's
 */
export async function narrow(options: NarrowOptions, watch: RunControl = {}): Promise<NarrowReport> {
  const started = performance.now();
  const { model, data, output, batchSize = 32, rounds = 20, tokens = 64, seed = 0 } = options;
  const made = await readProvenance((await readModelFolder(model)).folder);
  const dataset = await openAsRun(data, made.data, [], watch);
  const student = await loadStudent(model, { onlySaved: true });
  if (student.pooling === 'none')
    throw new InputError({
      code: 'narrow.model',
      subject: `${model} gives vectors of whole texts`,
      expected: 'an encoder whose file gives token vectors, pooled behind it',
      remedy: 'give the folder that it was exported from',
    });
  const graph = await student.inferenceGraph(new Map());
  const before = encodeGraph(graph).length;
  const widths = await widthsOf(graph.clone());
  const heads = options.heads ?? Math.min(...widths.map((w) => w.heads));
  const units = options.units ?? Math.min(...widths.map((w) => w.units));
  const random = Random.of(seed, 'narrow texts');
  const draw = () =>
    padBatch(
      Array.from({ length: batchSize }, () => {
        const query = random.integer(dataset.documents.length + dataset.queries.length) >= dataset.documents.length;
        return query
          ? student.queryTokens(dataset.queries.text(random.integer(dataset.queries.length)), tokens)
          : student.documentTokens(dataset.documents.text(random.integer(dataset.documents.length)), tokens);
      }),
      student.tokenizer.padId,
    );
  const choice = { heads, units, pooling: student.pooling, rounds, seed };
  const kept = await selectUnits(graph, draw, choice, watch);
  await narrowGraph(graph, kept);
  const bytes = encodeGraph(graph);
  const described = await describeEncoder(model);
  const { files, head, prompts, similarity, lowerCase, maxLength } = described;
  const fewer = widths.some((w) => w.heads > heads);
  const config = {
    ...student.config,
    intermediate_size: units,
    // No class of PyTorch has heads whose joined width is not the encoder's.
    ...(fewer && { num_attention_heads: heads, onnx_distill_architecture: [{ kind: 'narrow', heads, units }] }),
  };
  const named = huggingFaceWeights(graph, torchFamily(config));
  await writeCheckpoint(output, {
    model: bytes,
    files: new Map(
      'weights' in named ? [['model.safetensors', encodeSafetensors(named.weights, { format: 'pt' })]] : [],
    ),
    tokenizerFrom: files.folder,
    config,
    head,
    prompts,
    similarity,
    lowerCase,
    tokenWidth: tokenWidth(head, Number(graph.outputs[0].dims?.[2])),
    maxLength,
    provenance: {
      version: VERSION,
      made: 'distill narrow',
      // How the data were read, for the jobs over this model.
      config: { data: made.data },
      options: { ...options, output: undefined, model: absolute(model), data: absolute(data) },
      kept,
      model: createHash('sha256').update(bytes).digest('hex'),
    },
    card: `# ${basename(model)}, ${heads} heads and ${units} hidden units a layer

Of each layer of \`${basename(model)}\` the attention heads and hidden units that Sequential Attention chose on \`${basename(data)}\`, without
further training: a student to start from.
`,
  });
  return {
    output,
    bytes: { before, after: bytes.length },
    kept,
    seconds: (performance.now() - started) / 1000,
  };
}
