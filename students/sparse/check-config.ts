/** @file What a sparse student cannot be combined with. */

/** Losses that read what a sparse student's step has: scores, labels and weights over the vocabulary. */
const fitting: ReadonlySet<string> = new Set([
  'bce',
  'flops',
  'info-nce',
  'kl',
  'm3se',
  'margin-mse',
  'mse',
  'rank-distil',
  'slam',
]);

/** The options of a run that are looked at. */
interface Asked {
  pipeline: string;
  candidates: { source: string; refresh?: unknown };
  matryoshka?: unknown;
  hybrid?: unknown;
  export?: unknown;
  querySelection?: unknown;
  weighting?: { kind: string } | undefined;
  train: object;
}

/** @returns a contradiction and its remedy, or nothing. @param losses as a run has them */
export function sparseContradiction(
  { pipeline, candidates, matryoshka, hybrid, export: exported, querySelection, weighting, train }: Asked,
  student: { kind: string },
  losses: readonly { kind: string }[],
): readonly [string, string] | undefined {
  const set = (of: object, name: string): boolean => {
    const value = (of as Record<string, unknown>)[name];
    return value !== undefined && value !== null && value !== 0 && !(Array.isArray(value) && !value.length);
  };
  if (student.kind !== 'sparse')
    return losses.some((l) => l.kind === 'flops')
      ? [
          "the loss 'flops' makes vectors sparse and the student's vectors are dense",
          "use 'student: { sparse: {} }', or remove it",
        ]
      : undefined;
  const cannot = (what: string, why: string, remedy = 'remove it'): readonly [string, string] => [
    `'${what}' is not available for a sparse student: ${why}`,
    remedy,
  ];
  if (pipeline !== 'cross-to-dual')
    return cannot(
      `pipeline: ${pipeline}`,
      'its documents are not vectors of another model',
      "use 'pipeline: cross-to-dual'",
    );
  const loss = losses.find((l) => l.kind !== 'module' && !fitting.has(l.kind));
  if (loss) return cannot(`losses: ${loss.kind}`, 'it compares dense vectors', `use ${[...fitting].join(', ')}`);
  if (matryoshka) return cannot('matryoshka', 'weights over a vocabulary have no prefixes');
  if (hybrid)
    return cannot(
      'hybrid',
      'its own terms take the place of BM25',
      "remove it; 'distill evaluate --with' adds a dense student",
    );
  if (exported) return cannot('export', 'its checkpoint holds the float file', "remove it and use 'distill impacts'");
  if (candidates.refresh || candidates.source === 'student' || candidates.source === 'hybrid')
    return cannot(
      'candidates',
      'they are searched with dense vectors',
      "use 'candidates.source: bm25' without refresh",
    );
  if (querySelection) return cannot('querySelection', 'it looks at dense vectors');
  if (weighting && weighting.kind !== 'uniform')
    return cannot(`weighting.kind: ${weighting.kind}`, 'it has not been tested with one');
  for (const name of ['gradCacheChunk', 'dropout', 'freeze', 'exits', 'spans', 'sampledDocuments'] as const)
    if (set(train, name)) return cannot(`train.${name}`, 'its step has no such part');
  for (const name of ['pooling', 'normalize'] as const)
    if (name in student && (student as Record<string, unknown>)[name] !== undefined)
      return cannot(`student.${name}`, 'weights are the maximum over tokens, at their own length');
  return undefined;
}

/** Losses by default: labels, the teacher's distribution at the scale of dot products, and FLOPS. @param taught whether there is a teacher */
export const sparseLosses = (taught: boolean): readonly object[] => [
  { kind: 'info-nce', temperature: 1 },
  ...(taught ? [{ kind: 'kl', studentTemperature: 1 }] : []),
  { kind: 'flops', weight: 0.01 },
];
