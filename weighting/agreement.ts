/** @file Whether two rankings of the same candidates agree. */

/** max(0, tau-b): pairs ordered alike less pairs ordered contrarily, ties accounted for; 0 where a list is constant. */
export function agreementOf(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let [sum, untiedX, untiedY] = [0, 0, 0];
  for (let i = 0; i < x.length; i++)
    for (let j = 0; j < i; j++) {
      const [a, b] = [Math.sign(x[i] - x[j]), Math.sign(y[i] - y[j])];
      sum += a * b;
      untiedX += Math.abs(a);
      untiedY += Math.abs(b);
    }
  return untiedX && untiedY ? Math.max(0, sum / Math.sqrt(untiedX * untiedY)) : 0;
}
