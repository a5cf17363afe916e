/** @file The learning rate of each step. */

export interface Schedule {
  learningRate: number;
  warmupSteps: number;
  totalSteps: number;
  /** Final learning rate as a fraction of the learning rate. */
  finalShare: number;
}

/** Linear from 0 to the learning rate over the warm-up, then linear down to the final fraction. @param step from 0 */
export function learningRateAt(step: number, { learningRate, warmupSteps, totalSteps, finalShare }: Schedule): number {
  if (step < warmupSteps) return (learningRate * (step + 1)) / warmupSteps;
  const left = (totalSteps - step) / Math.max(1, totalSteps - warmupSteps);
  return learningRate * Math.max(finalShare, Math.min(1, left));
}
