/** @file DAFT: a teacher's last layer trained on features that are moved against it, and the scores that such features get. */

/** Pairs in lists, with what the teacher's last layer reads of each. */
export interface FeatureLists {
  dimensions: number;
  /** [pairs, dimensions] row-major. */
  features: Float32Array;
  /** Pairs of list i: offsets[i] .. offsets[i + 1]. */
  offsets: Int32Array;
  /** [pairs] what the label says of each; the sum of a list is 1. */
  labels: Float32Array;
}

/** score = weight . h + bias */
export interface LinearHead {
  weight: Float64Array;
  bias: number;
}

/** Scores of all pairs. */
export function cleanScores({ features, dimensions: D }: FeatureLists, { weight, bias }: LinearHead): Float64Array {
  return Float64Array.from({ length: features.length / D }, (_, i) => {
    let sum = bias;
    for (let k = 0; k < D; k++) sum += weight[k] * features[i * D + k];
    return sum;
  });
}

/** Softmax of each list. */
function distributions(scores: Float64Array, offsets: Int32Array): Float64Array {
  const out = new Float64Array(scores.length);
  for (let i = 0; i + 1 < offsets.length; i++) {
    const [from, to] = [offsets[i], offsets[i + 1]];
    let [most, sum] = [Number.NEGATIVE_INFINITY, 0];
    for (let j = from; j < to; j++) most = Math.max(most, scores[j]);
    for (let j = from; j < to; j++) sum += out[j] = Math.exp(scores[j] - most);
    for (let j = from; j < to; j++) out[j] /= sum;
  }
  return out;
}

/** Mean over lists of the cross-entropy of the labels. */
export function labelLoss(scores: Float64Array, { offsets, labels }: FeatureLists): number {
  const q = distributions(scores, offsets);
  let loss = 0;
  for (let j = 0; j < q.length; j++) if (labels[j]) loss -= labels[j] * Math.log(q[j]);
  return loss / (offsets.length - 1);
}

/** Euclidean length. */
export const lengthOf = (v: Float64Array): number => Math.sqrt(v.reduce((s, x) => s + x * x, 0));

/**
 * [pairs] along which direction of the weight each pair's features move: with the label's cross-entropy L, dL/dh = (q - y) w, so
 * that r = epsilon g / |g| is epsilon w / |w| with the sign of q - y; 0 where the label and the model agree.
 */
const against = (scores: Float64Array, { offsets, labels }: FeatureLists): Float64Array =>
  distributions(scores, offsets).map((q, j) => Math.sign(q - labels[j]));

/**
 * Scores of the features moved by at most epsilon so that the label's loss rises: h + r, one step along the gradient. Since L is
 * convex in the scores, it is at least that of the features as they are.
 */
export function adversarialScores(lists: FeatureLists, head: LinearHead, epsilon: number): Float64Array {
  const scores = cleanScores(lists, head);
  const sign = against(scores, lists);
  const reach = epsilon * lengthOf(head.weight); // w . r = epsilon |w|
  return scores.map((z, j) => z + sign[j] * reach);
}

const [BETA1, BETA2, TINY] = [0.9, 0.999, 1e-12];

/**
 * The last layer trained so that moved features still give the teacher's own distribution over each list:
 *
 *     min over w of the mean of KL(softmax(w0 . h) || softmax(w . (h + r)))
 *
 * by Adam over all lists, r anew in each step. With epsilon 0 the teacher stays as it is. The loss mix is ours: the paper's is not
 * known here.
 *
 * @source Nasery, Addepalli, Netrapalli, Jain 2022 (arXiv 2208.09139)
 */
export function adversarialHead(
  lists: FeatureLists,
  head: LinearHead,
  { epsilon, steps, learningRate }: { epsilon: number; steps: number; learningRate: number },
): LinearHead {
  const { features, offsets, dimensions: D } = lists;
  const n = offsets.length - 1;
  const target = distributions(cleanScores(lists, head), offsets);
  const weight = Float64Array.from(head.weight);
  const [first, second, gradient] = [new Float64Array(D), new Float64Array(D), new Float64Array(D)];
  for (let step = 1; step <= steps; step++) {
    const clean = cleanScores(lists, { weight, bias: head.bias });
    const sign = against(clean, lists);
    const length = lengthOf(weight);
    const q = distributions(
      clean.map((z, j) => z + sign[j] * epsilon * length),
      offsets,
    );
    gradient.fill(0);
    let along = 0;
    for (let j = 0; j < q.length; j++) {
      const own = (q[j] - target[j]) / n;
      if (!own) continue;
      along += own * sign[j];
      for (let k = 0; k < D; k++) gradient[k] += own * features[j * D + k];
    }
    for (let k = 0; k < D; k++) {
      const g = gradient[k] + (along * epsilon * weight[k]) / (length || 1);
      first[k] = BETA1 * first[k] + (1 - BETA1) * g;
      second[k] = BETA2 * second[k] + (1 - BETA2) * g * g;
      const [m, v] = [first[k] / (1 - BETA1 ** step), second[k] / (1 - BETA2 ** step)];
      weight[k] -= (learningRate * m) / (Math.sqrt(v) + TINY);
    }
  }
  return { weight, bias: head.bias };
}
