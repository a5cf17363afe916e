/** @file The state of a query after the teacher has scored its first k documents, and the resulting ranking. */
import { entropy, softmax } from '../../math/numbers.ts';

/** One query: the student's list, best first, and the teacher's scores of it. */
export interface Query {
  /** The student's scores, descending. */
  readonly student: Float32Array;
  /** The teacher's logits of the same documents. While serving, those of the first k are there. */
  readonly teacher: Float32Array;
}

/** How scores of documents that the teacher has seen are joined: teacher + weight x student. 0: the teacher's alone. */
export type Fusion = number;

/** Names of the features, in order. Those of the teacher are 0 before it was asked. */
export const featureNames = [
  'margin', // p(first) - p(second) of the student's scores over its first ten
  'entropy', // of the same distribution
  'gap', // first score less the tenth
  'cut', // tenth score less the eleventh
  'deviation', // standard deviation of the first ten
  'asked', // share of the list that the teacher has scored
  'teacherMargin', // first less second joined score
  'teacherGap', // first less tenth joined score
  'reach', // tenth joined score less the joined score that the next document is expected to have
  'moved', // share of the ten served that the last chunk brought in
  'agreement', // share of the student's ten that are still served
] as const;
export const FEATURES = featureNames.length;

/** Served documents that a policy looks at. */
export const TOP = 10;
/** Sharpness of the student's scores as a distribution: cosines differ by hundredths. */
const TEMPERATURE = 0.05;

/**
 * Positions in the student's list in the order in which they are served: those the teacher has scored by joined score, then the
 * rest in the student's order. Scores of the two kinds are not mixed.
 */
export function servedOrder({ student, teacher }: Query, scored: number, fusion: Fusion): Int32Array {
  const joined = (i: number): number => teacher[i] + fusion * student[i];
  const head = Array.from({ length: Math.min(scored, student.length) }, (_, i) => i).sort(
    (a, b) => joined(b) - joined(a) || a - b,
  );
  return Int32Array.from(student, (_, i) => head[i] ?? i);
}

/** The features of a query whose first `scored` documents the teacher has scored, the last chunk of them from `before` on. */
export function features(query: Query, scored: number, before: number, fusion: Fusion): Float64Array {
  const { student, teacher } = query;
  const n = student.length;
  const top = Array.from(student.subarray(0, Math.min(TOP, n)));
  const p = softmax(top, TEMPERATURE);
  const mean = top.reduce((a, b) => a + b, 0) / Math.max(1, top.length);
  const own = [
    (p[0] ?? 1) - (p[1] ?? 0),
    entropy(p),
    (student[0] ?? 0) - (student[Math.min(TOP, n) - 1] ?? 0),
    n > TOP ? student[TOP - 1] - student[TOP] : 0,
    Math.sqrt(top.reduce((s, v) => s + (v - mean) ** 2, 0) / Math.max(1, top.length)),
    n ? scored / n : 0,
  ];
  if (scored === 0) return Float64Array.from([...own, 0, 0, 0, 0, 1]);
  const order = servedOrder(query, scored, fusion).subarray(0, Math.min(TOP, scored));
  const joined = Array.from(order, (i) => teacher[i] + fusion * student[i]);
  const last = joined[joined.length - 1];
  return Float64Array.from([
    ...own,
    joined[0] - (joined[1] ?? joined[0]),
    joined[0] - last,
    scored < n ? last - expected(query, scored, fusion) : 0,
    order.reduce((s, i) => s + Number(i >= before), 0) / TOP,
    order.reduce((s, i) => s + Number(i < TOP), 0) / TOP,
  ]);
}

/** The joined score that the next document is expected to have: a line through those scored, by the student's score. */
function expected({ student, teacher }: Query, scored: number, fusion: Fusion): number {
  let [sx, sy, sxx, sxy] = [0, 0, 0, 0];
  for (let i = 0; i < scored; i++) {
    const y = teacher[i] + fusion * student[i];
    sx += student[i];
    sy += y;
    sxx += student[i] * student[i];
    sxy += student[i] * y;
  }
  const spread = sxx - (sx * sx) / scored;
  const slope = spread > 1e-12 ? (sxy - (sx * sy) / scored) / spread : 0;
  return sy / scored + slope * (student[scored] - sx / scored);
}
