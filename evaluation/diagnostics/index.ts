/** @file Diagnostics of students. */
export {
  brier,
  type CalibrationError,
  calibrationError,
  logisticLoss,
  negativeLogLikelihood,
  type Platt,
  platt,
  temperature,
} from './calibration.ts';
export { type ConfidenceSlope, confidenceSlope, learnedShare, topProbabilities } from './confidence.ts';
export { alignment, anisotropy, effectiveRank, linearCka, neighbourOverlap, uniformity } from './geometry.ts';
export {
  lastLayerKernel,
  type PairFeatures,
  type SupervisionComplexity,
  supervisionComplexity,
} from './supervision.ts';
