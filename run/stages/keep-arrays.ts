/** @file Keeps results that are a few arrays: one safetensors file a stage. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { vectorOf } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import type { Keep } from './stage.ts';

type Numbers = Float32Array | Float64Array | Int32Array;
type Arrays = Readonly<Record<string, Numbers | undefined>>;

/** Keeps a result as stages/NAME.safetensors. @param pack its arrays by name @param unpack the result they are */
export function keepArrays<T>(name: string, pack: (result: T) => Arrays, unpack: (arrays: Arrays) => T) {
  const file = join('stages', `${name}.safetensors`);
  return {
    alone: true,
    async save(result, _, { path }) {
      const arrays = Object.entries(pack(result)).flatMap(([n, data]) => (data ? [[n, vectorOf(data)] as const] : []));
      await writeWhole(path(file), encodeSafetensors(new Map(arrays)));
      return [file];
    },
    async load(_, { path }) {
      const tensors = parseSafetensors(await readFile(path(file)), file);
      return unpack(Object.fromEntries([...tensors].map(([n, { data }]) => [n, data as Numbers])));
    },
  } satisfies Keep<T, unknown>;
}
