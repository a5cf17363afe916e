/** @file Matryoshka: any loss over nested prefixes of the embeddings, so that their width can be chosen when serving. */
import { InputError } from '../common/errors.ts';
import { defineLoss, type Loss, type LossInput, type LossInputs } from './loss.ts';

/** Which prefixes `matryoshka` takes, and their weights. */
export interface MatryoshkaOptions {
  /** Widths of the prefixes; include the full width if it should count. */
  dimensions: readonly number[];
  /** A factor for each width; 1 by default. */
  weights?: readonly number[];
  /** Whether prefixes are scaled to unit length again, as in serving with cosines. */
  normalize?: boolean;
}

/**
 * value_b = sum_m c_m value_b(prefix of width m), with one forward pass and the same targets for every width.
 *
 * A projection is cut to its first m rows.
 *
 * @throws InputError if no widths are given or the number of weights differs
 * @example
 * import { kl, matryoshka } from 'onnx-distill/losses';
 * const { loss } = await matryoshka(kl({ studentTemperature: 1 }), { dimensions: [2, 1], normalize: false }).evaluate({
 *   queries: [[1, 0]],
 *   documents: [[3, 5], [2, 0], [0, 1]],
 *   candidates: [[0, 1, 2]],
 *   teacher: [[4, 2, 1]],
 * });
 * loss; // 0.129942
 * @source Kusupati et al., NeurIPS 2022 (arXiv 2205.13147)
 */
export function matryoshka(base: Loss, { dimensions, weights, normalize = true }: MatryoshkaOptions): Loss {
  if (
    !dimensions.length ||
    dimensions.some((m) => !Number.isInteger(m) || m < 1) ||
    (weights && weights.length !== dimensions.length)
  )
    throw new InputError({
      code: 'loss.matryoshka',
      subject: `matryoshka dimensions [${dimensions}]${weights ? ` with weights [${weights}]` : ''}`,
      expected: 'positive whole numbers, and as many weights where weights are given',
      remedy: 'e.g. dimensions: [384, 192, 96]',
    });
  const scored = base.needs.includes('student');
  const needs = new Set<LossInput>(base.needs.filter((n) => n !== 'student'));
  for (const n of scored ? (['queries', 'documents', 'candidates'] as const) : []) needs.add(n);
  return defineLoss({
    name: `matryoshka ${base.name}`,
    needs: [...needs],
    uses: base.uses,
    perQuery(inputs) {
      const { queries, documents, candidates, projection } = inputs;
      const cut = (e: typeof queries, m: number): typeof queries => {
        const prefix = e.slice(0, m, 1);
        return normalize ? prefix.l2Normalize() : prefix;
      };
      return dimensions
        .map((m, i) => {
          const q = queries && cut(queries, m);
          const d = documents && cut(documents, m);
          const narrow = {
            ...inputs,
            ...(q && { queries: q }),
            ...(d && { documents: d }),
            ...(scored && { student: q.matmul(d.transpose(1, 0)).gatherElements(candidates, 1) }),
            ...(projection && { projection: projection.slice(0, m, 0) }),
          } as LossInputs;
          return base.perQuery(narrow).mul(weights?.[i] ?? 1);
        })
        .reduce((a, b) => a.add(b));
    },
  });
}
