/** @file The batches of a training that takes its examples as a stream. */
import { offsetsOf, positionsOf } from '../../../math/ragged.ts';
import { encodingOf, type Lists, studentScores } from '../../../students/student-scores.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import { studentLosses } from '../../../training/batches/examples.ts';
import { Stream, streamMethods } from '../../../training/streams/index.ts';
import { type Fit, frozenOf, type Renewal } from './fit.ts';

/** The stream of a training whose options ask for one; its examples are in the order of arrival. */
export function streamOf({ options: { train }, inputs: { examples }, seed, note }: Fit): Stream | undefined {
  if (train.order !== 'stream') return undefined;
  const { replay = 'shuffle', buffer = 2048, gap = 0, surprising = 0.7 } = train.stream ?? {};
  const n = examples.queries.length;
  const method = streamMethods[replay];
  const stream = new Stream(n, { method, buffer, gap, surprising, batch: Math.min(train.batchSize, n), seed });
  const out = n - method.learned(n, { buffer, gap, surprising });
  note(
    `replay '${replay}' of the stream, ${replay === 'in-order' ? '' : `a buffer of ${Math.min(buffer, n)} examples, `}${stream.batches} batches a pass${out ? `, ${out} examples a pass left out by the gap` : ''}`,
  );
  return stream;
}

/**
 * What runs before each step where the order depends on losses: the current student scores the examples of the next buffer.
 * The loss of an example is -log softmax of its first candidate (its positive, or else the teacher's best) among as many
 * candidates as a step draws. The training state carries the order, and after a resume nothing is computed again.
 */
export function surpriseOf(fit: Fit, stream: Stream): Renewal | undefined {
  const { options, inputs, watch, note } = fit;
  const { accumulate, candidates } = options.train;
  return async (step, weights, examples) => {
    const next = Array.from({ length: accumulate }, (_, k) => step * accumulate + k);
    await stream.prepare(next, async (from, to) => {
      const own = shortened(
        examples,
        Int32Array.from({ length: to - from }, (_, i) => from + i),
        candidates,
      );
      const pool = { student: inputs.student, data: inputs.data, frozen: frozenOf(fit) };
      const { scores } = await fit.time('surprise', async () =>
        studentScores(await encodingOf(options), pool, await weights(), own, watch));
      const losses = studentLosses(own, scores);
      const mean = losses.reduce((a, b) => a + b, 0) / losses.length;
      note(`step ${step}: losses of the ${to - from} examples of the buffer, ${mean.toFixed(3)} in the mean`);
      return losses;
    });
    return examples;
  };
}

/** The lists of some examples: the positive first, or the teacher's best where there is none, then others up to `count`. */
function shortened({ queries, offsets, documents, scores, labelled }: Examples, at: Int32Array, count: number): Lists {
  const lists = Array.from(at, (i) => {
    const own = positionsOf(offsets, i);
    const best = own.reduce((most, c) => (scores[c] > scores[most] ? c : most), own[0]);
    const first = labelled[i] ? own[0] : best;
    return [first, ...own.filter((c) => c !== first)].slice(0, count).map((c) => documents[c]);
  });
  return {
    queries: Int32Array.from(at, (i) => queries[i]),
    offsets: Int32Array.from(offsetsOf(lists.map((l) => l.length))),
    documents: Int32Array.from(lists.flat()),
  };
}
