/** @file What a result was made of, part by part, and the message for a part that changed. */
import { hashParts } from '../../common/files.ts';

/** Parts by name: options by their dotted names, contents as hashes. A part that is not known yet is undefined. */
export type Fingerprint = Readonly<Record<string, string | undefined>>;

/** All parts of several fingerprints; where two say different things under one name, both count. */
export function merged(...all: readonly Fingerprint[]): Fingerprint {
  const parts: Record<string, string | undefined> = {};
  for (const fingerprint of all)
    for (const [name, value] of Object.entries(fingerprint)) {
      if (!(name in parts) || parts[name] === value) parts[name] = value;
      else {
        const before = parts[name];
        parts[name] = before === undefined || value === undefined ? undefined : hashParts(before, value);
      }
    }
  return parts;
}

/** Names of the parts in which two differ; what is not known of one of them is not compared. */
export function differing(before: Fingerprint, now: Fingerprint): string[] {
  const unknown = (f: Fingerprint, part: string): boolean => part in f && f[part] === undefined;
  return [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .filter((part) => before[part] !== now[part] && !unknown(before, part) && !unknown(now, part))
    .sort();
}

/** `train.learningRate changed from 0.0002 to 0.0001`; content is not shown. */
export function changes(before: Fingerprint, now: Fingerprint): string | undefined {
  const parts = differing(before, now).map((part) => {
    const shown = [before[part] ?? 'nothing', now[part] ?? 'nothing'];
    const readable = !part.startsWith('the ') && shown.every((v) => v.length <= 60 && !/^[0-9a-f]{64}$/.test(v));
    return readable ? `${part} changed from ${shown[0]} to ${shown[1]}` : `${part} changed`;
  });
  return parts.length ? parts.join(', ') : undefined;
}
