/** @file Diagnostics of a student: calibration and confidence compared with its teacher's, and the geometry of its embeddings. */
import type { Dataset, Qrels } from '../../data/dataset.ts';
import { Random } from '../../math/random.ts';
import { brier, calibrationError, platt } from '../diagnostics/calibration.ts';
import { confidenceSlope } from '../diagnostics/confidence.ts';
import { alignment, effectiveRank, uniformity } from '../diagnostics/geometry.ts';
import type { Run } from '../metrics/evaluate.ts';
import type { CalibrationFigures, Figures, GeometryFigures } from '../report/figures.ts';
import type { Vectors } from './retrieve.ts';

export interface DiagnoseInput {
  dataset: Dataset;
  qrels: Qrels;
  vectors: Vectors;
  /** Both over the same candidates. */
  student: Run;
  teacher: Run | undefined;
  seed: number;
}

/** Number of rows used for pairwise distances and singular values. */
const SAMPLE = 512;
/** Queries whose pairs calibration looks at, drawn at random. */
const CALIBRATED = 20_000;
/** Bins of equal width. */
const BINS = 10;

/** Says that calibration is of a sample of the queries, where it is. */
export const calibrationNotes = (queries: number): string[] =>
  queries > CALIBRATED
    ? [`calibration is of ${CALIBRATED.toLocaleString('en')} queries drawn of ${queries.toLocaleString('en')}`]
    : [];

export function diagnose(input: DiagnoseInput): Pick<Figures, 'calibration' | 'geometry'> {
  return { calibration: calibration(input), geometry: geometry(input) };
}

/**
 * Calibrates scores of pairs by Platt scaling on half of the queries (of a sample where there are many) and measures it on the other half. Absent if a half lacks
 * pairs of one label.
 */
function calibration({ qrels, student, teacher, seed }: DiagnoseInput): CalibrationFigures | undefined {
  const queries = Random.of(seed, 'calibration')
    .shuffle([...student.keys()])
    .slice(0, CALIBRATED);
  const half = queries.length >> 1;
  const pairs = (chosen: readonly string[]) => {
    const [s, t, y]: [number[], number[], number[]] = [[], [], []];
    for (const query of chosen) {
      const { ids = [], scores = [] } = student.get(query) ?? {};
      const theirs = teacher?.get(query);
      const byTeacher = new Map(theirs?.ids.map((id, i) => [id, theirs.scores[i]]));
      for (const [i, id] of ids.entries()) {
        if (teacher && !byTeacher.has(id)) continue;
        s.push(scores[i]);
        t.push(byTeacher.get(id) ?? 0);
        y.push(Number((qrels.get(query)?.get(id) ?? 0) > 0));
      }
    }
    return { s, t, y };
  };
  const [fit, held] = [pairs(queries.slice(0, half)), pairs(queries.slice(half))];
  for (const { y } of [fit, held]) if (!y.includes(0) || !y.includes(1)) return undefined;
  const judged = (key: 's' | 't') => {
    const { probability } = platt(fit[key], fit.y);
    const p = Float64Array.from(held[key], probability);
    return { p, figures: { ece: calibrationError(p, held.y, { bins: BINS }).error, brier: brier(p, held.y) } };
  };
  const own = judged('s');
  const theirs = teacher && judged('t');
  return {
    student: own.figures,
    teacher: theirs?.figures,
    slope: theirs && confidenceSlope(theirs.p, own.p, { winsorise: true }).slope,
    pairs: held.y.length,
  };
}

/** Absent with fewer than two documents. */
function geometry({ dataset, qrels, vectors, seed }: DiagnoseInput): GeometryFigures | undefined {
  const { dimensions, documents, queries, positions } = vectors;
  const random = Random.of(seed, 'geometry');
  const m = documents.length / dimensions;
  if (m < 2) return undefined;
  const take = (of: Float32Array, rows: readonly number[]): { dimensions: number; data: Float32Array } => {
    const data = new Float32Array(rows.length * dimensions);
    for (const [i, r] of rows.entries()) data.set(of.subarray(r * dimensions, (r + 1) * dimensions), i * dimensions);
    return { dimensions, data };
  };
  const rows = random.shuffle(Array.from({ length: m }, (_, i) => i)).slice(0, SAMPLE);
  const sample = take(documents, rows);
  const pairs = positions.slice(0, SAMPLE).flatMap((q, i) => {
    const relevant = [...(qrels.get(dataset.queries.ids[q]) ?? [])].find(([, g]) => g > 0)?.[0];
    const d = relevant === undefined ? undefined : dataset.documents.indexOf(relevant);
    return d === undefined ? [] : [[i, d]];
  });
  return {
    effectiveRank: effectiveRank(sample),
    uniformity: uniformity(sample),
    alignment: pairs.length
      ? alignment(
          take(
            queries,
            pairs.map(([q]) => q),
          ),
          take(
            documents,
            pairs.map(([, d]) => d),
          ),
        )
      : undefined,
    sampled: rows.length,
    dimensions,
  };
}
