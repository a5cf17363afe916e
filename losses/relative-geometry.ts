/** @file Relative geometry: distances and angles among the embeddings of a step, so that widths and scales may differ. */
import type { Expr } from '../engine/expressions/expr.ts';
import { byOwner, defineLoss, type Loss, notSelf } from './loss.ts';
import { choice, notNegative, withDefaults } from './options.ts';

/** Options of the loss `relative-geometry`. */
export interface RelativeGeometryOptions {
  of?: 'queries' | 'documents';
  distanceWeight?: number;
  angleWeight?: number;
}

/**
 * Relational knowledge distillation. With psi_ij = ||e_i - e_j|| / mean ||e_i - e_j|| (i != j), each side by its own mean:
 *
 *     distance: value_i = mean_{j != i} huber(psi^s_ij - psi^t_ij)
 *     angle:    value_j = mean_{i, k} huber(cos^s_ijk - cos^t_ijk), the angle at j between e_i and e_k, all three distinct
 *
 * Invariant to translation, rotation and scaling of either space. Angles need at least three texts per step and cost the cube of
 * their number.
 *
 * @example
 * import { relativeGeometry } from 'onnx-distill/losses';
 * const { loss } = await relativeGeometry({ angleWeight: 0 }).evaluate({
 *   queries: [[0, 0], [1, 0], [0, 1]],
 *   teacherQueries: [[0, 0], [3, 0], [0, 4]],
 * });
 * loss; // 0.005222
 * @source Park, Kim, Lu and Cho, CVPR 2019 (arXiv 1904.05068)
 */
export function relativeGeometry(given: RelativeGeometryOptions = {}): Loss {
  const { of, distanceWeight, angleWeight } = withDefaults(relativeGeometry.options, given);
  return defineLoss({
    name: 'relative-geometry',
    needs: of === 'queries' ? ['queries', 'teacherQueries'] : ['documents', 'teacherDocuments', 'owner'],
    perQuery(inputs) {
      const student = of === 'queries' ? inputs.queries : inputs.documents;
      const teacher = (of === 'queries' ? inputs.teacherQueries : inputs.teacherDocuments).stopGradient();
      const other = notSelf(student); // [n, n]
      const parts: Expr[] = [];
      if (distanceWeight) {
        const error = huber(distances(student, other).sub(distances(teacher, other))).mul(other);
        parts.push(
          error
            .sum([1])
            .div(other.sum([1]))
            .mul(distanceWeight),
        );
      }
      if (angleWeight) {
        const triple = other.unsqueeze(2).mul(other.unsqueeze(1)).mul(other.unsqueeze(0)); // [j, i, k]
        const error = huber(angles(student).sub(angles(teacher))).mul(triple);
        parts.push(
          error
            .sum([1, 2])
            .div(triple.sum([1, 2]).max(1))
            .mul(angleWeight),
        );
      }
      const each = parts.reduce((a, b) => a.add(b));
      return of === 'queries' ? each : byOwner(each, inputs.owner);
    },
  });
}
relativeGeometry.options = {
  of: choice(['queries', 'documents'], 'queries', 'which embeddings are compared among themselves'),
  distanceWeight: notNegative(1, 'factor of the distances of pairs'),
  angleWeight: notNegative(2, 'factor of the angles of triples'),
};

/** e_j - e_i as [i, j, D]. */
const differences = (e: Expr): Expr => e.unsqueeze(0).sub(e.unsqueeze(1));

/** [n, n] distances divided by the mean of the off-diagonal ones. */
function distances(e: Expr, other: Expr): Expr {
  const d = differences(e).square().sum([2]).add(1e-12).sqrt().mul(other);
  return d.div(d.sum([0, 1], true).div(other.sum([0, 1], true)));
}

/** [j, i, k] cosines of the angles at j. */
function angles(e: Expr): Expr {
  const unit = differences(e).l2Normalize(); // [j, i, D]
  return unit.matmul(unit.transpose(0, 2, 1));
}

/** Huber loss: squared within 1, linear beyond. */
function huber(x: Expr): Expr {
  const a = x.abs();
  return a.less(1).where(x.square().mul(0.5), a.sub(0.5));
}
