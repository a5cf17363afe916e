/** @file Defaults that depend on the pipeline, and contradictions between options. */
import { InputError } from '../common/errors.ts';
import { parseMetric } from '../evaluation/metrics/metrics.ts';
import { sparseContradiction, sparseLosses } from '../students/sparse/check-config.ts';
import { httpTeacherKey, servesEmbeddings } from '../teachers/services/http-teacher.ts';
import { optimizers } from '../training/optimizers/index.ts';
import type { Config, ParsedConfig } from './config.ts';
import { continued, wrongContinue } from './continue/continue.ts';
import { comparesDocuments, lossSchema, needsOf, registered, toLosses } from './losses.ts';
import { refusedRobust, toQuerySelection, toWeighting, weightingSchema } from './methods.ts';
import { localModel } from './models.ts';
import { unreadByLate } from './pipelines/late-interaction.ts';
import { kindOf, refusedKeep, startFolder, studentSchema, trainedEncoder } from './student.ts';
import { wrongStream } from './training.ts';

/** @throws InputError for the first contradiction, with what to change */
export function completed(given: ParsedConfig, where: string): Config {
  const refuse = (subject: string, remedy: string): never => {
    throw new InputError({ code: 'config.contradiction', subject: `${where}: ${subject}`, remedy });
  };
  for (const wrong of wrongContinue(given)) refuse(...wrong);
  const parsed = goingOn(given);
  const { pipeline, data } = parsed;
  const weighting = parsed.weighting ?? defaultWeighting(parsed);
  const student = withDefaults(parsed);
  const teacher =
    parsed.teacher?.kind === 'dual-encoder'
      ? {
          ...parsed.teacher,
          queryTokens: parsed.teacher.queryTokens ?? student.queryTokens,
          documentTokens: parsed.teacher.documentTokens ?? student.documentTokens,
        }
      : parsed.teacher;
  if (!data.path) refuse("'data.path' is missing", 'name a BEIR folder');

  const overFrozen = pipeline === 'inherit-documents' || pipeline === 'static-queries';
  const towers = student.towers ?? (overFrozen || isOtherTower(parsed, student) ? 'query' : 'both');
  if (pipeline === 'late-interaction' && (towers === 'query') !== isOtherTower(parsed, student))
    refuse(
      `'student.towers: ${towers}' contradicts 'student.model' and 'embedder.model', which say whether queries have an encoder of their own`,
      'remove it',
    );
  if (overFrozen && towers === 'both')
    refuse(`'pipeline: ${pipeline}' trains the query tower alone`, "remove 'student.towers: both'");
  if (pipeline === 'cross-to-dual' && towers === 'query')
    refuse("'pipeline: cross-to-dual' trains both towers", "use 'pipeline: inherit-documents' for a query tower");
  // A dual-encoder that scores can also be matched and inherited from.
  const embedder = parsed.embedder ?? embedderOf(teacher);
  for (const service of [teacher, parsed.embedder]) if (service?.kind === 'http') httpTeacherKey(service);
  if (pipeline === 'dual-to-dual' && !embedder)
    refuse("'pipeline: dual-to-dual' has no dual-encoder to learn from", "use 'teacher.kind: dual-encoder'");
  if (pipeline === 'static-queries' && embedder && !localModel(embedder))
    refuse(
      "'pipeline: static-queries' asks the embedder for the vectors of tokens, which a service or a file does not have",
      'use a dual-encoder in a folder or on the hub',
    );
  if (pipeline === 'static-queries' && !embedder)
    refuse("'pipeline: static-queries' has no documents to search", "add an 'embedder'");
  const kind = kindOf(student);
  if (kind.pipeline && kind.pipeline !== pipeline)
    refuse(
      `'student.${student.kind}' is trained by 'pipeline: ${kind.pipeline}' alone`,
      `use 'pipeline: ${kind.pipeline}'`,
    );
  if (pipeline === 'late-interaction' && kind.pipeline !== pipeline)
    refuse("'pipeline: late-interaction' trains a re-ranker over token vectors", "add 'student.multiVector: {}'");
  if (pipeline === 'late-interaction' && !localModel(embedder))
    refuse(
      "'pipeline: late-interaction' computes token vectors with the embedder, which a service or a file does not give",
      'use a dual-encoder in a folder or on the hub',
    );
  if (pipeline === 'static-queries' && kind.pipeline !== pipeline)
    refuse("'pipeline: static-queries' makes its own student", "remove 'student.model'");
  const unread = unreadByLate(parsed);
  if (unread) refuse(...unread);
  const refused = kind.refused?.(student, { dimensions: parsed.export?.dimensions });
  if (refused) refuse(...refused);
  if (parsed.candidates.source === 'student' && startFolder(student) === undefined)
    refuse(
      "'candidates.source: student' searches with an encoder and the student starts from none",
      'choose another source',
    );
  if (parsed.candidates.source === 'hybrid' && !embedder && trainedEncoder(student) === undefined)
    refuse("'candidates.source: hybrid' needs a trained encoder", "add an 'embedder', or choose another source");
  if (towers === 'query' && !embedder)
    refuse(
      `${overFrozen ? `'pipeline: ${pipeline}'` : "'student.towers: query'"} needs frozen documents`,
      "add an 'embedder' whose documents the query tower searches",
    );

  const losses = parsed.losses ?? defaultLosses(parsed, embedder);
  const sparse = sparseContradiction(parsed, student, losses);
  if (sparse) refuse(...sparse);
  const { epochs, steps, ...defaults }: TrainingDefaults = trainingDefaults[pipeline] ?? training;
  const length = parsed.train.steps || (steps && parsed.train.epochs) ? {} : steps ? { steps } : { epochs };
  const { rateAdvice, needsDecay, finalShare: finalLearningRate = 0.02 } = optimizers[parsed.train.optimizer]();
  if (rateAdvice && parsed.train.learningRate === undefined)
    refuse(
      `'train.optimizer: ${parsed.train.optimizer}' has no learning rate by default`,
      `give 'train.learningRate', ${rateAdvice}`,
    );
  const train = { ...defaults, finalLearningRate, ...length, ...defined(parsed.train) };
  if (needsDecay && !train.weightDecay)
    refuse(
      `'train.optimizer: ${parsed.train.optimizer}' cuts gradients at a size that follows from the weight decay, which is 0`,
      "give 'train.weightDecay' (e.g. 0.01), or use 'sgd'",
    );
  const needs = needsOf(toLosses(registered(losses), towers === 'query', parsed.matryoshka));
  if ((needs.has('teacherQueries') || needs.has('teacherDocuments')) && !embedder)
    refuse("a loss matches embeddings and there is no 'embedder'", 'add one, or remove the loss');
  if (needs.has('teacherQueries') && embedder?.kind === 'vectors' && !embedder.queries)
    refuse(
      "a loss matches embeddings of queries and 'embedder.files' holds those of documents",
      "name vectors of queries under 'embedder.queries', or use info-nce and kl",
    );
  if (needs.has('teacher') && !teacher)
    refuse(
      "a loss follows the teacher's scores and there is no 'teacher'",
      'add one, or train on labels with info-nce alone',
    );
  if (needs.has('pairQueries') && teacher?.kind !== 'cross-encoder')
    refuse(
      "the loss 'pair-matching' needs a cross-encoder's hidden states and there is no model of one",
      "use 'teacher.kind: cross-encoder', or another loss",
    );
  if (needs.has('teacherInBatch'))
    refuse(
      "a loss asks for the teacher's score of every document of a step, which a run does not have",
      "use its form by 'embeddings', or by 'candidates'",
    );
  if (needs.has('reliability') && weighting.kind === 'uniform')
    refuse(
      "the loss 'slam' needs an estimate of how likely the teacher is right",
      "use 'weighting.kind: reliability' or another that estimates it",
    );
  const once =
    pipeline !== 'active' && pipeline !== 'online' && weighting.kind === 'uniform' && !parsed.candidates.refresh;
  const robust = refusedRobust(train, { once, teacher, needs, losses, student: { ...student, towers } });
  if (robust) refuse(...robust);
  const trainsAssistant = pipeline !== 'chain' || (!embedder && parsed.chain?.assistant !== false);
  const kept = refusedKeep({ ...student, towers }, embedder, trainsAssistant);
  if (kept) refuse(...kept);
  if (train.spans && !embedder) refuse("'train.spans' needs an 'embedder'", 'add one, or remove it');
  if (train.exits && kind.pipeline === 'static-queries')
    refuse(`'train.exits' names layers and 'student.${student.kind}' is a table without layers`, 'remove it');
  if (train.exits && towers !== 'query')
    refuse(
      "'train.exits' needs frozen documents, which all depths of the query tower search, and both towers are trained",
      "use 'pipeline: inherit-documents', or remove it",
    );
  if (train.sampledDocuments && towers !== 'query')
    refuse(
      "'train.sampledDocuments' draws from frozen documents and both towers are trained",
      "use 'pipeline: inherit-documents' or 'static-queries', or remove it",
    );
  if (train.lexical !== undefined && parsed.matryoshka)
    refuse("'train.lexical' adds to whole vectors' scores and 'matryoshka' cuts vectors", 'remove one of the two');
  if (train.lexical !== undefined && ['sparse', 'multiVector'].includes(student.kind))
    refuse(`'train.lexical' adds to cosines, which a student of kind ${student.kind} has not`, 'remove it');
  if (train.lexical !== undefined && !needs.has('student') && !needs.has('documents'))
    refuse("no loss reads the scores that 'train.lexical' adds to", 'add kl or info-nce, or remove it');
  if (train.sampledDocuments && !needs.has('documents'))
    refuse("no loss reads the documents of 'train.sampledDocuments'", 'add in-batch-kl, or remove it');
  if (Array.isArray(train.average) && (data.splits.dev === null || train.evaluateEvery === null))
    refuse(
      "'train.average' is chosen on the dev split and nothing is evaluated on it",
      "set 'train.evaluateEvery' and 'data.splits.dev', or remove it",
    );
  const comparesSpans = losses.some(
    (l) =>
      (l.kind === 'embedding-matching' && l.of !== 'documents') ||
      (l.kind === 'in-batch-kl' && towers === 'query' && l.teacherScores !== 'given'),
  );
  if (train.spans && !comparesSpans)
    refuse(
      "'train.spans' are only seen by the loss 'embedding-matching' and, over frozen documents, 'in-batch-kl'",
      'add one, or remove them',
    );
  if (parsed.generate?.score && !teacher && !embedder)
    refuse("'generate.score' needs a 'teacher' or an 'embedder'", 'add one, or remove it');
  if (parsed.train.epochs && parsed.train.steps) refuse("'train.epochs' and 'train.steps' are both given", 'keep one');
  const { refresh } = parsed.candidates;
  if (refresh && needs.has('teacher') && teacher?.kind === 'scores')
    refuse("'candidates.refresh' finds pairs that no file of scores holds", "use a teacher's model, or labels alone");
  if (refresh && (weighting.kind !== 'uniform' || pipeline === 'online'))
    refuse("'candidates.refresh' changes the lists that weights and checkpoints are held for", 'use one of them');
  if (train.freeze?.length && student.kind === 'static')
    refuse("'train.freeze' names parts of an encoder and the student is a table of tokens", 'remove it');
  for (const wrong of wrongStream(parsed.train, comparesDocuments(needs), Boolean(embedder))) refuse(...wrong);
  if (train.topics && !embedder) refuse("'train.topics' clusters embeddings and there is no 'embedder'", 'add one');
  if (pipeline === 'online' && !parsed.online)
    refuse("'pipeline: online' has no earlier checkpoints", "name them under 'online.teachers'");
  if (pipeline === 'online' && !['cross-encoder', 'dual-encoder', 'generative'].includes(teacher?.kind ?? ''))
    refuse("'pipeline: online' scores with a model", "use 'teacher.kind: cross-encoder', generative or dual-encoder");
  for (const own of ['active', 'online'] as const)
    if (parsed[own] && pipeline !== own)
      refuse(`'${own}' is read by 'pipeline: ${own}' alone`, `use it, or remove '${own}'`);
  if (pipeline === 'active' && !teacher)
    refuse("'pipeline: active' has no teacher to score the chosen queries", "add a 'teacher'");
  if (pipeline === 'active' && !parsed.querySelection)
    refuse(
      "'pipeline: active' has no budget",
      "say under 'querySelection' how many are scored and how they are chosen",
    );
  // GradCache takes the gradients of parts of a batch, which a device keeps to itself.
  if (train.gradCacheChunk && train.provider !== 'auto' && train.provider !== 'cpu')
    refuse(`'train.gradCacheChunk' is not available with 'train.provider: ${train.provider}'`, 'remove one of them');
  for (const [name, model] of Object.entries({ teacher, embedder }))
    if (model && 'dtype' in model && model.dtype === 'fp16' && train.provider !== 'auto' && train.provider !== 'cuda')
      refuse(
        `'${name}.dtype: fp16' is for cuda and 'train.provider' is ${train.provider}`,
        `change one of them, or set '${name}.dtype' to int8 on a CPU`,
      );
  if (train.precision !== 'float32') {
    const given = `'train.precision: ${train.precision}'`;
    if (train.provider !== 'auto' && train.provider !== 'cuda')
      refuse(`${given} is for cuda and 'train.provider' is ${train.provider}`, 'change one of them');
    if (train.gradCacheChunk) refuse(`${given} is not available with 'train.gradCacheChunk'`, 'remove one of them');
    if (student.kind === 'sparse') refuse(`${given} is not available for a sparse student`, 'remove it');
    if (optimizers[train.optimizer]().readsProducts)
      refuse(`${given} is not available with 'train.optimizer: ${train.optimizer}'`, 'change one of them');
  }
  if (train.topics && train.batchSize % train.topics.perBatch)
    refuse(`'train.batchSize: ${train.batchSize}' is not a multiple of 'train.topics.perBatch'`, 'change one of them');
  if (parsed.candidates.source === 'embedder' && !embedder)
    refuse("'candidates.source: embedder' has no 'embedder'", 'add one, or choose another source');
  for (const metric of parsed.evaluate.metrics) parseMetric(metric);
  const weighingNeeds = toWeighting(weighting).needs;
  // Small losses are the student's own.
  const weighs = weighting.kind !== 'uniform' && !weighingNeeds.some((n) => n === 'losses' || n === 'peer');
  const readers: [string, boolean][] = [
    [`selection.kind: ${parsed.selection.kind}`, parsed.selection.kind !== 'all'],
    ['train.pseudoLabels', train.pseudoLabels],
    [`weighting.kind: ${weighting.kind}`, weighs],
  ];
  const reader = teacher ? undefined : readers.find(([, reads]) => reads);
  if (reader) refuse(`'${reader[0]}' reads a teacher's scores and there is no 'teacher'`, 'add one, or remove it');
  if (weighingNeeds.includes('ensemble') && !weighting.teachers)
    refuse("'weighting.kind: ensemble' has no further teachers", "name them under 'weighting.teachers'");
  if (weighingNeeds.includes('peer')) {
    if (weighting.renew === null)
      refuse(
        "'weighting.kind: co-teaching' has no steps to choose at",
        "say under 'weighting.renew' after how many steps",
      );
    if (pipeline === 'online')
      refuse(
        "'weighting.kind: co-teaching' trains two students and 'pipeline: online' changes teachers",
        'use one of them',
      );
  }
  if (weighting.teachers && !weighingNeeds.includes('ensemble'))
    refuse(
      `'weighting.teachers' are not read by 'weighting.kind: ${weighting.kind}'`,
      "use 'ensemble', or remove them",
    );
  const { tokens, kind: generated, url, model: writer } = parsed.generate ?? {};
  if (generated === 'chat' && (!url || !writer))
    refuse(
      `'generate.kind: chat' needs 'generate.${url ? 'model' : 'url'}'`,
      'name an OpenAI-compatible endpoint, e.g. url: http://127.0.0.1:11434/v1, and a model',
    );
  if (generated !== 'chat' && (url || writer))
    refuse(
      `'generate.${url ? 'url' : 'model'}' is read by 'generate.kind: chat' alone`,
      'use it, or remove the endpoint',
    );
  if (tokens && tokens[0] > tokens[1])
    refuse(`'generate.tokens' runs from ${tokens[0]} to ${tokens[1]}`, 'give the smaller number first');
  if (pipeline === 'chain' && embedder && !localModel(embedder))
    refuse(
      "'pipeline: chain' makes its towers of the embedder's own layers and tokens, and this embedder is not a model here",
      "use 'pipeline: inherit-documents' with a 'student.model'",
    );
  if (parsed.hybrid?.weight === 'auto' && data.splits.dev === null)
    refuse(
      "'hybrid.weight: auto' is fitted on the dev split and 'data.splits.dev' is null",
      "name one, or give 'hybrid.weight' a number",
    );
  if (parsed.export?.strict && data.splits.dev === null)
    refuse(
      "'export.strict' measures files on the dev split and 'data.splits.dev' is null",
      'name one, or remove strict',
    );
  if ([parsed.export?.dtype].flat().includes('static-int8') && !kind.isTable?.(student))
    refuse(
      "'export.dtype: static-int8' is a table of tokens, alone or with a gate",
      "use 'pipeline: static-queries' with 'student.static.order' none or gate, or another dtype",
    );
  if (parsed.candidates.changed) {
    if (pipeline !== 'cross-to-dual' && pipeline !== 'late-interaction')
      refuse(
        `'candidates.changed' makes documents that the frozen or annotated ones of 'pipeline: ${pipeline}' do not have`,
        "use 'pipeline: cross-to-dual' or late-interaction, or remove it",
      );
    if (teacher?.kind === 'scores')
      refuse("'candidates.changed' makes pairs that no file of scores holds", "use a teacher's model, or labels alone");
    if (needs.has('teacherDocuments') || refresh)
      refuse(
        "'candidates.changed' makes documents that have no vector of the embedder",
        'remove the losses that match documents (embedding-matching of queries alone is one), and candidates.refresh',
      );
  }
  const active = pipeline === 'active' ? (parsed.active ?? { rounds: 4, restart: true }) : parsed.active;
  const more =
    parsed.querySelection &&
    toQuerySelection(parsed.querySelection).needs.find((n) => n === 'second' || n === 'teacherErrors');
  if (more)
    refuse(
      `'querySelection.kind: ${parsed.querySelection?.kind}' needs '${more}', which a run does not have`,
      'choose another kind',
    );
  return { ...parsed, weighting, active, teacher, student: { ...student, towers }, embedder, losses, train };
}

/** The options of a run that goes on from a checkpoint, as far as they follow from that. */
function goingOn(given: ParsedConfig): ParsedConfig {
  if (!given.continue) return given;
  const embedder = given.embedder ?? embedderOf(given.teacher as Config['teacher']);
  const towers = given.student.towers ?? (given.pipeline === 'inherit-documents' ? 'query' : 'both');
  const losses = given.losses ?? defaultLosses(given, embedder);
  return continued({ ...given, embedder }, losses, towers) as ParsedConfig;
}

/** A dual-encoder or a service of embeddings that teaches by scores can also be matched and inherited from. */
function embedderOf(teacher: Config['teacher']): Config['embedder'] {
  if (teacher?.kind === 'dual-encoder') {
    const { model, queryTokens = 64, documentTokens = 192, dtype, prompts } = teacher;
    return { model, queryTokens, documentTokens, ...(dtype && { dtype }), ...(prompts && { prompts }) };
  }
  if (teacher?.kind !== 'http' || !servesEmbeddings(teacher)) return undefined;
  const { scores: _, format, ...service } = teacher;
  return { ...service, format: format as 'tei' | 'openai-embeddings' };
}

const training = { epochs: 1, batchSize: 32, learningRate: 2e-4, weightDecay: 0.01, warmupSteps: 50, spans: null };

/** A row is read by few steps, and starts at the teacher's vector: a high rate, no decay. As in the reference runs. */
const staticTraining = { epochs: 5, batchSize: 64, learningRate: 3e-3, weightDecay: 0, warmupSteps: 100, spans: 256 };

/** Projections of frozen states: few weights, which stand 300 steps of a high rate. */
const lateTraining = { ...training, steps: 300, learningRate: 1e-3, warmupSteps: 20 };

type TrainingDefaults = Omit<typeof training, 'spans'> & { spans: number | null; steps?: number };
const trainingDefaults: Partial<Record<ParsedConfig['pipeline'], TrainingDefaults>> = {
  'static-queries': staticTraining,
  'late-interaction': lateTraining,
};

/** The student with what follows from the pipeline and the output folder. */
function withDefaults({ pipeline, output, student, embedder, teacher }: ParsedConfig): ParsedConfig['student'] {
  const named = pipeline === 'static-queries' && trainedEncoder(student) === '' ? asTable(student) : student;
  return kindOf(named).completed?.(named, output, localModel(embedder ?? embedderOf(teacher))) ?? named;
}

/** Whether queries of late interaction have an encoder of their own, over the embedder's documents. */
const isOtherTower = ({ pipeline, embedder }: ParsedConfig, student: ParsedConfig['student']): boolean =>
  pipeline === 'late-interaction' && startFolder(student) !== localModel(embedder);

/** A student of no name, as the pipeline static-queries takes it: a table with its defaults. */
function asTable(student: ParsedConfig['student']): ParsedConfig['student'] {
  const common = Object.entries(student).filter(([key]) => key !== 'kind' && key !== 'model' && key !== 'layers');
  return studentSchema.parse({ ...Object.fromEntries(common), kind: 'static', static: {} });
}

/** An object without the keys that hold nothing, so that defaults show through. */
const defined = <T extends object>(o: T): T =>
  Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined)) as T;

/**
 * Where some queries are labelled and the others take the teacher's best candidate, the labelled ones estimate how often it is right:
 * see docs/results-methods.md, 'A teacher that errs'.
 */
const defaultWeighting = ({ data, train }: ParsedConfig): Config['weighting'] =>
  weightingSchema.parse(
    train.pseudoLabels && data.labelled ? { kind: 'reliability', renew: RENEW } : { kind: 'uniform' },
  );
const RENEW = 200;

/** Losses by default: of labels and the teacher's scores, or of embeddings where there is an embedder alone. */
function defaultLosses({ pipeline, teacher, student }: ParsedConfig, embedder: Config['embedder']): Config['losses'] {
  const labels = { kind: 'info-nce' };
  const matching = { kind: 'embedding-matching', weight: 2 };
  if (pipeline === 'static-queries') return [lossSchema.parse(matching)];
  if (student.kind === 'sparse') return sparseLosses(Boolean(teacher)).map((l) => lossSchema.parse(l));
  // Scores alone are trained: no embedding can be matched.
  if (pipeline === 'late-interaction') return [lossSchema.parse(teacher ? { kind: 'kl' } : labels)];
  const cosines = teacher?.kind === 'dual-encoder' || (teacher?.kind === 'http' && servesEmbeddings(teacher));
  const scores = teacher && { kind: 'kl', ...(cosines && COSINES) };
  const matched = embedder && !(embedder.kind === 'vectors' && !embedder.queries);
  return [labels, ...(scores ? [scores] : []), ...(matched ? [matching] : [])].map((l) => lossSchema.parse(l));
}

/**
 * Cosines are within [-1, 1]: without the temperature a dual-encoder's distribution over candidates is flat, and without the
 * weight, 1 / T^2, the loss's own factor T^2 makes it negligible compared with the others. Assumption, as in the reference runs.
 */
const COSINES = { temperature: 0.05, weight: 400 };
