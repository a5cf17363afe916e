/** @file What a rotation or a selection of dimensions is asked. */
import { InputError } from '../common/errors.ts';
import type { Provenance } from '../serving/encoder/checkpoint.ts';

/** Which encoder is rotated on which data, for which widths. */
export interface RotateOptions {
  /** Folder of a dual-encoder. */
  model: string;
  data: string;
  /** How the data are read, as a run's config says it under `data`; by default as the run that made the model read them. */
  rows?: Provenance['data'];
  output: string;
  /** Widths of the prefixes; half, a third, a quarter, an eighth and a sixteenth of the vector by default. */
  dimensions?: readonly number[];
  /**
   * What is learned: a rotation, whose prefixes are good embeddings; a projection of both sides to `keep` dimensions; or which `keep`
   * dimensions are kept as they are, by Sequential Attention, which ranks far worse than a projection.
   */
  select?: Selection;
  /** Dimensions that a projection or a selection leaves. */
  keep?: number;
  /** A model that was rotated before, whose rotation is used as it is: for an encoder that shares its space. */
  like?: string;
  /** Whose queries are learned from; those that no split judges are too. Judgements are not read. */
  split?: string;
  /** What prefixes are measured with, where the data have it. */
  dev?: string;
  /** Tokens a query and a document; by default where the model's folder cuts them. */
  queryTokens?: number;
  documentTokens?: number;
  steps?: number;
  seed?: number;
  cache?: string;
  provider?: 'auto' | 'cpu' | 'webgpu' | 'cuda';
}

export const selections = ['rotation', 'projection', 'sequential-attention'] as const;
export type Selection = (typeof selections)[number];

/** @throws InputError where options of a rotation and of a selection are mixed */
export function checkSelection({ select = 'rotation', keep, dimensions, like }: RotateOptions): void {
  const wrong = !selections.includes(select)
    ? ([`--select ${select}`, `choose ${selections.join(', ')}`] as const)
    : select === 'rotation'
      ? keep !== undefined && (['--keep with a rotation, which keeps all dimensions', 'name --dimensions'] as const)
      : keep === undefined
        ? ([`--select ${select} without --keep`, 'say how many dimensions are kept'] as const)
        : (dimensions || like) && ([`--select ${select} with --dimensions or --like`, 'leave them out'] as const);
  if (wrong) throw new InputError({ code: 'rotate.select', subject: wrong[0], remedy: wrong[1] });
}
