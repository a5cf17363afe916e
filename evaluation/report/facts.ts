/** @file What reports of a student say alike: the facts at their head, roles of systems, values as they are kept. */
import type { Dataset } from '../../data/dataset.ts';
import type { RunEvaluation } from '../metrics/evaluate.ts';
import type { Figures, SystemFigures } from './figures.ts';

/** The role that a system of a run has by its name. */
export const roleOf = (name: string): SystemFigures['role'] =>
  name.startsWith('student') ? 'student' : name === 'teacher' ? 'teacher' : name === 'embedder' ? 'baseline' : 'other';

/** Says of figures that they are of made queries, where they are. */
export const madeFact = ({ made }: Dataset): [string, string][] =>
  made ? [['queries', `${made.toLocaleString('en')} made of the documents, not asked by people`]] : [];

/** Values by metric as a report keeps them. */
export const rounded = (perQuery: RunEvaluation['perQuery']): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(perQuery).map(([metric, values]) => [metric, Array.from(values, (v) => Number(v.toFixed(6)))]),
  );

/** The values of each query, by system and metric. */
export const perQueryFigures = (
  queryIds: string[],
  measured: readonly { name: string; evaluation: RunEvaluation }[],
): NonNullable<Figures['perQuery']> => ({
  queryIds,
  systems: Object.fromEntries(measured.map((m) => [m.name, rounded(m.evaluation.perQuery)])),
});

/** The data that figures are of. */
export const dataFacts = (dataset: Dataset, split: string): [string, string][] => [
  ['data', `${dataset.name}, split ${split}`],
  ['documents', dataset.documents.length.toLocaleString('en')],
  ...madeFact(dataset),
];
