/** @file What the encodings of an index learned, as a file: arrays by name. */
import type { LearnedSettings } from '../vector-index.ts';

/** Runs of bytes, each behind its length. */
function encodeRuns(runs: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    runs.flatMap((run) => {
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(BigInt(run.byteLength));
      // Runs begin at a multiple of 8 bytes, so that numbers can be read in place.
      return [size, run, Buffer.alloc((8 - (run.byteLength % 8)) % 8)];
    }),
  );
}

function decodeRuns(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer);
  const runs: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = Number(view.getBigUint64(at, true));
    runs.push(bytes.subarray(at + 8, at + 8 + size));
    at += 8 + size + ((8 - (size % 8)) % 8);
  }
  return runs;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

export function encodeLearned(arrays: LearnedSettings): Buffer {
  const names = Object.entries(arrays).flatMap(([of, learned]) =>
    Object.keys(learned).map((name) => [of, name] as const),
  );
  const values = names.map(([of, name]) => bytesOf(arrays[of as keyof typeof arrays][name]));
  return encodeRuns([Buffer.from(JSON.stringify(names)), ...values]);
}

export function decodeLearned(content: Uint8Array): LearnedSettings {
  const [names, ...values] = decodeRuns(content);
  const out: Record<keyof LearnedSettings, Record<string, Float32Array>> = { codes: {}, exact: {}, cells: {} };
  for (const [i, [of, name]] of (JSON.parse(Buffer.from(names).toString()) as [keyof typeof out, string][]).entries())
    out[of][name] = new Float32Array(values[i].buffer, values[i].byteOffset, values[i].byteLength >> 2);
  return out;
}
