/** @file What the cross-encoder makes of query and document while it reads the two together, for the pairs of a step. */
import { InputError } from '../../../common/errors.ts';
import { needsOf } from '../../../config/losses.ts';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import { computeOn } from '../../../engine/runtime/provider.ts';
import { crossEncoderLimits } from '../../../teachers/open-model.ts';
import { type DualPooling, dualPooling } from '../../../teachers/pair-embeddings.ts';
import type { Pair } from '../../../teachers/teacher.ts';
import type { StepBatch } from '../../../training/batches/batches.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import type { Fit } from './fit.ts';

export interface PairVectors {
  /** Width of each of the two vectors of a pair. */
  width: number;
  /**
   * Adds `pairQueries` and `pairDocuments` [B, N, width] to a batch.
   * @param drawn of each query of the batch, its candidates' positions among the examples' documents
   */
  addTo<B extends StepBatch & { exampleIds: readonly number[]; drawn: number[][] }>(
    batch: B,
    examples: Examples,
  ): Promise<B>;
  close(): Promise<void>;
}

/** Pairs that the head is looked at on before training. */
const SAMPLE = 64;
/** Below it the vectors do not explain the scores. */
const DOUBTFUL = 0.5;

/**
 * Opens the cross-encoder's hidden states where a loss matches them. Vectors are made anew for each step's pairs, a pass of the
 * cross-encoder each: those of all pairs would take 8 bytes x width a pair, which no memory holds of a large data set.
 *
 * @throws InputError where the model has no layers to read, or the widths of two matching losses differ
 */
export async function pairVectors(fit: Fit, teacherWidth: number | undefined): Promise<PairVectors | undefined> {
  const { teacher } = fit.options;
  const { examples: all, data, losses } = fit.inputs;
  if (!needsOf(losses).has('pairQueries') || teacher?.kind !== 'cross-encoder') return undefined;
  const reader = await open(fit, teacher);
  try {
    const pair = (examples: Examples, e: number, at: number): Pick<Pair, 'query' | 'document'> => ({
      query: data.queries.text(examples.queries[e]),
      document: data.documents.text(examples.documents[at]),
    });
    const sample = Array.from(all.queries.subarray(0, SAMPLE), (_, e) => pair(all, e, all.offsets[e]));
    const { dimensions: width, correlation } = await fit.time('read pairs', () => reader.read(sample));
    if (teacherWidth !== undefined && teacherWidth !== width)
      throw new InputError({
        code: 'train.widths',
        subject: `the cross-encoder's vectors have ${width} components and the embedder's ${teacherWidth}`,
        remedy: "match one of them: remove the loss 'pair-matching' or the embedder and the losses that need it",
      });
    const { dot, cosine } = correlation;
    const said = `over ${sample.length} pairs the cross-encoder's score correlates with its vectors' dot product by ${dot.toFixed(2)} and with their cosine by ${cosine.toFixed(2)}`;
    if (Math.max(dot, cosine) < DOUBTFUL)
      fit.warn(
        'train.pair-vectors',
        `${said}: 'pair-matching' is meant for cross-encoders trained to score by their product`,
      );
    else fit.note(said);
    return {
      width,
      async addTo(batch, examples) {
        const N = batch.candidates.dims[1];
        const pairs = batch.drawn.flatMap((own, b) => own.map((at) => pair(examples, batch.exampleIds[b], at)));
        const found = await reader.read(pairs, { signal: fit.watch.signal, memory: fit.watch.memory });
        const spread = (vectors: Float32Array): Tensor<'float32'> => {
          const data = new Float32Array(batch.drawn.length * N * width);
          let read = 0;
          for (const [b, own] of batch.drawn.entries()) {
            data.set(vectors.subarray(read * width, (read + own.length) * width), b * N * width);
            read += own.length;
          }
          return { dtype: 'float32', dims: [batch.drawn.length, N, width], data };
        };
        const arrays = { pairQueries: spread(found.queries), pairDocuments: spread(found.documents) };
        return { ...batch, arrays: { ...batch.arrays, ...arrays } };
      },
      close: () => reader.dispose(),
    };
  } catch (error) {
    await reader.dispose();
    throw error;
  }
}

async function open(
  { options }: Fit,
  teacher: Parameters<typeof crossEncoderLimits>[0] & { model: string },
): Promise<DualPooling> {
  try {
    return await dualPooling(teacher.model, {
      ...crossEncoderLimits(teacher),
      session: await computeOn(options.train),
    });
  } catch (error) {
    if (!(error instanceof InputError) || !error.code.startsWith('layers.')) throw error;
    throw new InputError({
      code: 'teacher.no-hidden-states',
      subject: `no hidden states can be read of ${teacher.model}, which the loss 'pair-matching' needs (${error.message})`,
      remedy: "export it with the output 'last_hidden_state' in addition to 'logits', or use another loss",
      cause: error,
    });
  }
}
