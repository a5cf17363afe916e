/** @file What the pipeline late-interaction does not read: an option that would change nothing is refused. */

/** The options that are looked at. */
interface Given {
  pipeline: string;
  hybrid?: unknown;
  export?: unknown;
  matryoshka?: unknown;
  generate?: unknown;
  weighting?: { kind: string };
  candidates: { refresh?: unknown };
  evaluate: { also?: readonly string[] };
  train: object;
}

const ofEncoders = 'spans freeze exits average gradCacheChunk sampledDocuments topics dropout devDocuments'.split(' ');

/** The first option that it has no use for, with what to do instead; undefined where there is none. */
export function unreadByLate(parsed: Given): readonly [string, string] | undefined {
  if (parsed.pipeline !== 'late-interaction') return undefined;
  const { train, weighting, candidates, evaluate } = parsed;
  const given: readonly [string, boolean][] = [
    ['hybrid', parsed.hybrid !== undefined],
    ['export', parsed.export !== undefined],
    ['matryoshka', parsed.matryoshka !== undefined],
    ['generate', parsed.generate !== undefined],
    ['weighting', weighting !== undefined && weighting.kind !== 'uniform'],
    ['candidates.refresh', Boolean(candidates.refresh)],
    ['evaluate.also', Boolean(evaluate.also?.length)],
    ['train.precision', (train as { precision?: string }).precision !== 'float32'],
    ...ofEncoders.map((name): [string, boolean] => [
      `train.${name}`,
      Boolean((train as Record<string, unknown>)[name]),
    ]),
  ];
  const [name] = given.find(([, is]) => is) ?? [];
  if (!name) return undefined;
  return [
    `'${name}' is not read by 'pipeline: late-interaction', whose encoders are frozen`,
    'remove it, or use it in the run that trains the encoder',
  ];
}
