/** @file Parses and prints byte sizes such as `4GB`. */
import { InputError } from './errors.ts';

const units: Readonly<Record<string, number>> = {
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};
const SIZE = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)?b?)\s*$/i;

export const isMemorySize = (text: string): boolean => SIZE.test(text);

/** `4GB`, `512 MiB`, `1.5g`, or bytes. @throws InputError for anything else */
export function memorySize(text: string): number {
  const [, number, unit] = SIZE.exec(text) ?? [];
  const bytes = Number(number) * (unit ? units[unit.toLowerCase()] : 1);
  if (bytes > 0) return bytes;
  throw new InputError({
    code: 'memory.size',
    subject: `the memory limit '${text}'`,
    expected: 'a size such as 4GB or 512MiB',
    remedy: 'write it so',
  });
}

/** E.g. `1.5 GB`, `64 MB`. */
export const sized = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
