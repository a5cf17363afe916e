import { basename, relative, resolve } from 'node:path';
import { stringify } from 'yaml';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import { listsNegatives } from '../../data/relevant.ts';
import { type Findings, type FoundModel, trainSplit } from './find-inputs.ts';

/** Half of the layers, first and last among them. */
function halfOf(layers: number): number[] | undefined {
  const kept = Math.floor(layers / 2);
  if (kept < 2) return undefined;
  return Array.from({ length: kept }, (_, i) => Math.floor((i * (layers - 1)) / (kept - 1)));
}

/** Of dual-encoders the one to learn from (by its name, else the largest) and the one to start from. */
function rolesOf(duals: readonly FoundModel[]): { embedder?: FoundModel; start?: FoundModel } {
  if (duals.length < 2) return { start: duals[0] };
  const bySize = [...duals].sort((a, b) => b.bytes - a.bytes);
  const embedder = bySize.find((m) => /dual|teacher/i.test(basename(m.folder))) ?? bySize[0];
  return { embedder, start: bySize.findLast((m) => m !== embedder) };
}

/** The text of a config. @param from folder that its paths are relative to */
export function compose({ data, dataset, models, scores, scored, notes }: Findings, from: string): string {
  const path = (p: string): string => stringify(relative(from, p).replaceAll('\\', '/') || '.').trim();
  const cross = models.find((m) => m.kind === 'cross-encoder');
  const { embedder, start } = rolesOf(models.filter((m) => m.kind === 'dual-encoder'));
  const split = (...names: string[]): string | undefined => names.find((n) => dataset.splits.includes(n));
  const train = trainSplit(dataset);
  const dev = split('dev', 'validation', 'val');
  const test = split('test') ?? dev ?? train;
  const rowScores = scoresOfRows(dataset, train);
  const files = Object.entries(scores).filter(([s]) => ['train', 'dev', 'test'].includes(s));
  const given = files.some(([s]) => s === 'train') || rowScores;
  const listed = given || listsNegatives(dataset, train);
  const labelled = judgedQueries(dataset, train).length > 0;
  // A lone dual-encoder with nothing to teach it: towers over its documents are made, which it teaches itself.
  const own = start && !embedder && !given && !cross && (!labelled || dataset.made);
  // Of two dual-encoders without anything else the larger teaches the smaller; in every other case a family of students is made.
  const family = Boolean(start && (given || cross || !embedder));
  const layers = !family && start && halfOf(start.layers);
  const lines = [
    '# Options of `distill run`. All keys: `distill schema`. Paths are relative to this file, the output to where the command runs.',
    ...(family
      ? [
          '# A family of students: a dual-encoder, a small query tower over its documents, one without a transformer, each with BM25.',
          'pipeline: chain',
        ]
      : []),
    `output: runs/${basename(resolve(data)).replace(/\W+/g, '-') || 'student'}`,
    '',
    `# ${dataset.documents.length} documents, ${dataset.queries.length} queries. Splits: ${dataset.splits.join(', ')}.`,
    'data:',
    `  path: ${path(data)}`,
    `  splits: { train: ${train}, dev: ${dev ?? 'null'}, test: ${test} }`,
    ...splitNotes({ train, dev, test }, family),
    '  # maxQueries: 2000    # for a first try on a part of the training queries',
    '',
    '# The teacher scores how well a document matches a query.',
  ];
  if (given) {
    lines.push('teacher:', '  kind: scores');
    if (files.length) lines.push('  files:', ...files.map(([s, f]) => `    ${s}: ${path(f)}`));
    else lines.push('  # The scores are in the rows.');
    if (cross) lines.push(`  # Or let the model score: kind: cross-encoder, model: ${path(cross.folder)}`);
  } else if (cross) lines.push('teacher:', '  kind: cross-encoder', `  model: ${path(cross.folder)}`);
  else if (own)
    lines.push(
      '# None was found, and no judgements by people: the dual-encoder teaches query towers over its documents.',
    );
  else if (start && !embedder)
    lines.push(
      '# None was found: labels alone teach. `distill train-teacher` makes a cross-encoder of them and says whether it is better.',
      '# teacher: { kind: cross-encoder, model: FOLDER }',
    );
  else if (embedder) lines.push('teacher:', '  kind: dual-encoder', `  model: ${path(embedder.folder)}`);
  else lines.push('# None was found: training on labels alone.', '# teacher: { kind: cross-encoder, model: FOLDER }');
  const dualTeacher = !family && embedder;
  if ((embedder && !dualTeacher) || own)
    lines.push(
      '',
      family
        ? '# A dual-encoder of your own: its documents are searched, and no assistant is trained. Remove it to train one.'
        : "# Its embeddings are matched in addition to the teacher's scores.",
      'embedder:',
      `  model: ${path((embedder ?? start)?.folder as string)}`,
    );
  if (dualTeacher) lines.splice(2, 0, 'pipeline: dual-to-dual');
  lines.push('', '# What is trained.', 'student:');
  if (start) {
    lines.push(`  model: ${path(start.folder)}`);
    if (layers)
      lines.push(`  layers: [${layers.join(', ')}]    # of ${start.layers}; fewer are faster and less accurate`);
  } else
    lines.push(
      '  # No encoder was found to start from: a new one with random weights, which needs many queries.',
      '  fresh: { hidden: 128, layers: 2, heads: 4 }',
    );
  const part = given && files.length > 0 && scored && scored.listed < scored.of ? scored : undefined;
  lines.push(...(family ? familyOptions(dataset, listed, part) : trainingOptions(given, listed, part)));
  if (notes.length) lines.push('', ...notes.map((n) => `# ${n.replaceAll('\n', ' ')}`));
  return `${lines.join('\n')}\n`;
}

/** What the splits that are there leave open. */
const splitNotes = (
  { train, dev, test }: { train: string; dev: string | undefined; test: string },
  family: boolean,
): string[] => [
  ...(test === train
    ? [`  # ${test} is trained on and tested on: its figures are too good. Judge other queries (qrels/test.tsv).`]
    : test === 'test'
      ? []
      : [`  # There is no split test: figures on ${test} are too good.`]),
  ...(dev
    ? []
    : [
        `  # There is no split dev: no weights are chosen on it${family ? ', and BM25 is not combined with the students' : ''}. Some queries of their own in qrels/dev.tsv are enough.`,
      ]),
];

/** The candidates that are listed, with what is left out where only some training queries have scores. */
const givenCandidates = (part: Findings['scored'], why: string): string[] =>
  part
    ? [
        `candidates: { source: given, onEmpty: skip }    # ${part.listed} of ${part.of} training queries have scores; without the teacher the labels of all of them teach`,
      ]
    : [`candidates: { source: given }${why}`];

/** Options of a family, as comments: the defaults follow the size of the data. */
const familyOptions = (dataset: Dataset, listed: boolean, part: Findings['scored']): string[] => [
  '',
  ...(dataset.made
    ? [
        '# Queries that a language model writes (any OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY):',
        '# generate: { kind: chat, url: "http://127.0.0.1:11434/v1", model: NAME, each: 3, budget: { calls: 2000 } }',
        '',
      ]
    : []),
  '# Which documents the teacher scores for a query.',
  ...(listed
    ? givenCandidates(part, '    # those that are listed; hybrid searches for others')
    : ['# candidates: { source: hybrid, count: 16 }    # by the encoder and BM25 together; more are slower']),
  '',
  '# Each part is a run with options of its own (all of them: `distill schema`), in a folder of its own; false leaves it out.',
  '# chain:',
  '#   assistant: { train: { steps: 800, batchSize: 32, learningRate: 5e-5 } }',
  '#   query: { student: { layers: [0, -1] }, export: { dtype: [q4] } }',
  '#   static: false',
  '# train: { provider: auto, threads: 2 }    # where it computes; auto takes what is fastest here',
];

const trainingOptions = (given: boolean, listed: boolean, part: Findings['scored']): string[] => [
  '',
  '# Which documents stand for a query in training.',
  ...(listed && !given ? ['# The negatives that the rows list; bm25 searches for others.'] : []),
  ...(listed ? givenCandidates(part, '') : ['candidates: { source: bm25, count: 16 }']),
  '',
  'train:',
  '  epochs: 1',
  '  batchSize: 16       # queries a step',
  '  candidates: 4       # documents a query and step',
  '  documentTokens: 96  # fewer than in evaluation: steps are faster',
];

function scoresOfRows(dataset: Dataset, train: string): boolean {
  const lists = dataset.candidates?.(train);
  return lists !== undefined && lists.scores.length > 0 && lists.scores.every((s) => !Number.isNaN(s));
}
