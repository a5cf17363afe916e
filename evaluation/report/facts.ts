/** @file What reports of a student say alike: the facts at their head, roles of systems. */
import { type Dataset, isGenerated } from '../../data/dataset.ts';
import type { SystemFigures } from './figures.ts';

/** The role that a system of a run has by its name. */
export const roleOf = (name: string): SystemFigures['role'] =>
  name.startsWith('student') ? 'student' : name === 'teacher' ? 'teacher' : name === 'embedder' ? 'baseline' : 'other';

/** Says of figures of a split that they are of generated queries, where they are. */
export const madeFact = (dataset: Dataset, split: string): [string, string][] =>
  isGenerated(dataset, split)
    ? [['queries', `${dataset.qrels(split).size.toLocaleString('en')} made of the documents, not asked by people`]]
    : [];

/** The data that figures are of. */
export const dataFacts = (dataset: Dataset, split: string): [string, string][] => [
  ['data', `${dataset.name}, split ${split}`],
  ['documents', dataset.documents.length.toLocaleString('en')],
  ...madeFact(dataset, split),
];
