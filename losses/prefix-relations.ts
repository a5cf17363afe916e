/** @file Matryoshka embedding matching: the full vector matches the teacher's, prefixes match the teacher's similarities. */
import { InputError } from '../common/errors.ts';
import type { Expr } from '../engine/expressions/expr.ts';
import { type EmbeddingMatchingOptions, embeddingMatching } from './embedding-matching.ts';
import { gramMatching } from './gram-matching.ts';
import { defineLoss, type Loss, type LossInput } from './loss.ts';
import { type MatryoshkaOptions, matryoshka } from './matryoshka.ts';

/** Options of `prefixRelations`: those of both parts, and the temperature of the relations. */
export interface PrefixRelationsOptions extends EmbeddingMatchingOptions, MatryoshkaOptions {
  /** Divides the dot products on both sides: 0.05 for cosines. */
  temperature?: number;
}

/**
 * Matryoshka over embedding matching. The full vector is matched as in `embeddingMatching`; a prefix of m < D components, for
 * which the teacher has no vector, learns the similarities of the step's texts under the teacher's full vectors:
 *
 *     value_b = c_D match_b + sum_{m < D} c_m KL( softmax(Q_t P_t^T / T)_b || softmax(Q_s[:m] P_s[:m]^T / T)_b )
 *
 * with prefixes scaled to unit length again, rows of P P^T too where documents are matched. A prefix is not matched to the
 * teacher's own prefix: the student could then be no better than the truncated teacher. Over frozen documents P_s[:m] are their
 * prefixes, so that the query's prefix compensates for what truncation lost. Divergences have no factor T^2, which at 0.05 would
 * make them negligible compared with the distance.
 *
 * Weights c are those of `dimensions`; a width of D or more is the full vector, so that `dimensions: [D]` is
 * `embeddingMatching` itself. Where the width is not known, the largest of `dimensions` is used.
 *
 * @throws InputError if the student's full width is not among `dimensions`; see `matryoshka`
 * @example
 * import { prefixRelations } from 'onnx-distill/losses';
 * const { loss } = await prefixRelations({ dimensions: [2, 1], of: 'queries', temperature: 1 }).evaluate({
 *   queries: [[0.6, 0.8]],
 *   documents: [[1, 0], [-1, 0]],
 *   teacherQueries: [[1, 0]],
 *   teacherDocuments: [[1, 0], [-1, 0]],
 * });
 * loss; // 0.8
 * @source Kusupati et al., NeurIPS 2022 (arXiv 2205.13147), over Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005); the
 * relations are our choice
 */
export function prefixRelations({
  of = 'both',
  distance,
  dimensions,
  weights,
  normalize = true,
  temperature = 0.05,
}: PrefixRelationsOptions): Loss {
  const whole = embeddingMatching({ of, distance });
  const relations = gramMatching({
    of: of === 'documents' ? ['document-document'] : of === 'queries' ? ['query-document'] : bothBlocks,
    temperature,
    studentTemperature: temperature,
  });
  // Made for every width here, so that a mistake in the options is reported before training.
  const prefixes = dimensions.map((m) => matryoshka(relations, { dimensions: [m], normalize }));
  if (weights && weights.length !== dimensions.length) matryoshka(relations, { dimensions, weights, normalize });
  const narrow = dimensions.length > 1;
  const needs = new Set<LossInput>([...whole.needs, ...(narrow ? relations.needs : [])]);
  return defineLoss({
    name: 'matryoshka embedding-matching',
    needs: [...needs],
    uses: whole.uses,
    perQuery(inputs) {
      const width = widthOf(of === 'documents' ? inputs.documents : inputs.queries) ?? Math.max(...dimensions);
      if (!narrow && dimensions[0] < width)
        throw new InputError({
          code: 'loss.matryoshka',
          subject: `matryoshka dimensions [${dimensions}] for embeddings of ${width}`,
          expected: 'the full width among them, for the loss embedding-matching',
          remedy: `use dimensions: [${width}, ${dimensions}]`,
        });
      return dimensions
        .map((m, i): Expr => {
          const value = m >= width ? whole.perQuery(inputs) : prefixes[i].perQuery(inputs).mul(1 / temperature ** 2);
          return value.mul(weights?.[i] ?? 1);
        })
        .reduce((a, b) => a.add(b));
    },
  });
}

const bothBlocks = ['query-document', 'document-document'] as const;

/** The last dimension, where the graph knows its size. */
function widthOf(e: Expr): number | undefined {
  const last = e.value.dims?.at(-1);
  return typeof last === 'number' ? last : undefined;
}
