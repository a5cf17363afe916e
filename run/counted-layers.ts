/** @file Layers by their numbers from 0: -1 and the number of the last layer are one option to a run, not two. */
import { InputError } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import { layersOf, startFolder } from '../config/student.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { chosenLayers, findLayers } from '../engine/passes/layers.ts';
import { readModelFolder } from '../models/model-folder.ts';

type Student = Config['student'];

/**
 * The config with the layers of the student that it counts from the last one (negative) counted from the first, so that what is
 * recorded of it does not depend on how it was written. Unchanged where no layer is named so, or where the encoder cannot be read yet:
 * opening it says why.
 * @throws InputError where there is no such layer
 */
export async function withCountedLayers(config: Config): Promise<Config> {
  const { student, train } = config;
  const negative = (of: readonly unknown[] | undefined): boolean => !!of?.some((k) => typeof k === 'number' && k < 0);
  const forms = 'architecture' in student ? student.architecture : undefined;
  const named = [layersOf(student), train.freeze, ...(forms ?? []).map((form) => form.layers)];
  const count = named.some(negative) ? await depthOf(student) : undefined;
  if (count === undefined) return config;
  const layers = layersOf(student);
  const kept = layers && chosenLayers(layers, count);
  const depth = kept?.length ?? count;
  const after = (of: readonly number[], option: string): number[] => chosenLayers(of, depth, option);
  const { freeze } = train;
  const frozen = freeze?.filter((part) => part !== 'embeddings');
  return {
    ...config,
    student: {
      ...student,
      ...(kept && { layers: kept }),
      ...(forms && {
        architecture: forms.map((form) =>
          negative(form.layers) ? { ...form, layers: after(form.layers ?? [], 'student.architecture') } : form,
        ),
      }),
    } as Student,
    train: {
      ...train,
      ...(freeze &&
        frozen &&
        negative(frozen) && {
          freeze: [...freeze.filter((part) => part === 'embeddings'), ...after(frozen, 'train.freeze')],
        }),
    },
  };
}

/** Layers of the encoder that a student starts from; undefined where it has none, or is not there to be read. */
async function depthOf(student: Student): Promise<number | undefined> {
  if ('fresh' in student) return student.fresh.layers;
  const folder = startFolder(student);
  if (folder === undefined) return undefined;
  try {
    return findLayers(await loadGraph((await readModelFolder(folder)).model)).length;
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}
