/** @file Finds non-finite values. */

/** Index of the first NaN or infinity, -1 if there is none. */
export function firstNotFinite(data: ArrayLike<number>): number {
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return i;
  return -1;
}

export const allFinite = (data: ArrayLike<number>): boolean => firstNotFinite(data) < 0;
