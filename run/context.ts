/** @file A run: its options, data and models, and the walk of its stages; runs stand inside runs. */
import type { RunControl } from '../common/progress.ts';
import { VERSION } from '../common/version.ts';
import type { Config } from '../config/config.ts';
import { loadLosses, lossModules, needsOf } from '../config/losses.ts';
import { withMemory } from '../config/memory.ts';
import { localModel } from '../config/models.ts';
import { type OptionPath, type Options, pickOptions, recordedOptions } from '../config/options.ts';
import { trainedEncoder } from '../config/student.ts';
import type { Dataset, TextTable } from '../data/dataset.ts';
import { type Cut, cutNotes } from '../evaluation/diagnostics/cut-notes.ts';
import { warnOfData } from '../evaluation/diagnostics/warnings.ts';
import type { LossInput } from '../losses/index.ts';
import type { ScoreCache } from '../teachers/cache/score-cache.ts';
import type { OpenedTeacher } from '../teachers/open-model.ts';
import type { WeightedLoss } from '../training/step/dual-encoder-step.ts';
import { type AlsoSet, openAlso } from './also.ts';
import { withCountedLayers } from './counted-layers.ts';
import { type DataResults, dataResults, trainingQueries } from './data.ts';
import { openGeneral } from './general-texts.ts';
import { checkContinued, openData } from './open-data.ts';
import { knownTeachers, openTeacher, openTeachers, type TeacherSpec, teacherKey } from './open-teachers.ts';
import { claimOutput, refuseOther } from './output-folder.ts';
import { preparePrecision } from './precision.ts';
import { ArtifactStore } from './stages/artifact-store.ts';
import { RunLog } from './stages/run-log.ts';
import { type Dry, StageRunner } from './stages/runner.ts';
import { defineStage, given, lazily, type Result, type Tools } from './stages/stage.ts';

/** What a pipeline is a function of. */
export interface RunContext extends Omit<Tools, 'fingerprint'>, Pick<StageRunner, 'stage' | 'amend'> {
  readonly config: Config;
  /** Whether stages are walked without being made. */
  readonly dry: Dry;
  readonly data: DataResults;
  /** Further data sets that the systems are measured on. */
  readonly also: Result<readonly AlsoSet[]>;
  /** Where spans are taken from on which the student stays near the encoder as it was. */
  readonly general: Result<readonly TextTable[]> | undefined;
  /** Scores pairs; absent where labels or embeddings alone teach. */
  readonly teacher: Result<OpenedTeacher> | undefined;
  readonly embedder: Result<OpenedTeacher> | undefined;
  readonly losses: Result<readonly WeightedLoss[]>;
  /** Everything that some loss cannot do without. */
  readonly needs: ReadonlySet<LossInput>;
  /** Whether documents are the embedder's and are not encoded by the student. */
  readonly frozenDocuments: boolean;
  readonly log: RunLog;
  /** An option as an input, for a stage whose result depends on it in some cases. */
  option<P extends OptionPath>(path: P): Result<Options<P>>;
  /** Work with another teacher behind the cache, which is closed afterwards. */
  withTeacher<T>(spec: TeacherSpec, work: (teacher: Result<OpenedTeacher>) => Promise<T>): Promise<T>;
  /** The walk of a pipeline in which nothing is made and nothing is looked for, over the data and models that are open. */
  foreseen<T>(pipeline: (run: RunContext) => Promise<T>): Promise<T>;
  /** A part of this run with a folder, artefacts, a log and progress of its own; it shares options, data and models. */
  inside<T>(name: string, pipeline: (run: RunContext) => Promise<T>): Promise<T>;
  /**
   * A run as if it stood alone, with options, data, models and random streams (its seed) of its own, in a folder under this
   * one's: a pipeline of pipelines calls several and passes the checkpoint of one to the options of the next.
   * @param after results whose files the options name: a dry run that does not know them does not look into this run
   */
  runInside<T>(
    name: string,
    config: Config,
    pipeline: (run: RunContext) => Promise<Result<T>>,
    after?: readonly Result<unknown>[],
  ): Promise<Result<T>>;
}

/** The data, read first; the record shows whether they are those of the earlier run. */
const data = defineStage({
  name: 'data',
  options: [],
  unchanged: 'as in the earlier run',
  make: (_, { all }: { all: unknown }) => all,
  keep: { save: async () => [], load: async ({ all }) => all },
});

/**
 * Opens data and teachers, does the work and closes them again.
 * @param dry walks the stages without making them and writes nothing; 'brief' leaves out candidates too, which take no model
 */
export async function openRun<T>(
  options: Config,
  watch: RunControl,
  work: (run: RunContext) => Promise<T>,
  dry: Dry = false,
): Promise<T> {
  await preparePrecision(options);
  const config = await withCountedLayers(options);
  const log = new RunLog(dry ? { signal: watch.signal } : watch);
  const frozenDocuments = config.student.towers === 'query';
  const losses = await loadLosses(config.losses, frozenDocuments, config.matryoshka, config.folder);
  if (dry) refuseOther(config.output);
  const unlock = dry ? undefined : await claimOutput(config, VERSION);
  const closing: (() => Promise<void>)[] = [async () => unlock?.()];
  try {
    const dataset = await log.time('data', () => openData(config));
    log.note(
      `${dataset.documents.length} documents, ${dataset.queries.length} queries, splits ${dataset.splits.join(', ')}`,
    );
    for (const text of dataset.notes ?? []) log.note(text);
    const also = await openAlso(config, (text) => log.note(text));
    const general = await openGeneral(config, dataset, (text) => log.note(text));
    if (!dry)
      warnOfData(config.data.splits, dataset, trainingQueries(config, dataset), (code, text) => log.warn(code, text));
    const limited = dry ? watch : await withMemory(config, dataset, watch, (text) => log.note(text));
    const models = dry
      ? await knownTeachers(config, dataset)
      : await log.time('open teachers', () => openTeachers(config, dataset));
    closing.push(models.close);
    await checkContinued(config, models.embedder?.key, (code, text) => log.warn(code, text));
    for (const t of new Set([models.teacher, models.embedder]))
      for (const text of t?.teacher?.notes ?? []) log.note(text);
    if (!dry) for (const text of await cutNotes(cutsOf(config), dataset)) log.note(text);
    const store = await ArtifactStore.open(config.output);
    const { cache } = models;
    const runner = new StageRunner({ config, folder: config.output, store, watch: limited, log, dry, cache });
    const results = dataResults(config, dataset);
    await runner.stage(data, { all: results.all });
    const modules = await lossModules(config.losses, config.folder);
    const shared = {
      config,
      dry,
      data: results,
      also,
      general,
      teacher: models.teacher && given(models.teacher, { 'the teacher': models.teacher.key }),
      embedder: models.embedder && given(models.embedder, { 'the embedder': models.embedder.key }),
      losses: given(losses, { ...recordedOptions(config, ['losses', 'matryoshka']), ...modules }),
      needs: needsOf(losses),
      frozenDocuments,
    };
    return await work(contextOf(shared, { runner, log, watch: limited, dataset, cache }));
  } finally {
    for (const close of closing.reverse()) await close();
  }
}

type Shared = Pick<
  RunContext,
  'config' | 'dry' | 'data' | 'also' | 'general' | 'teacher' | 'embedder' | 'losses' | 'needs' | 'frozenDocuments'
>;
interface Own {
  runner: StageRunner;
  log: RunLog;
  watch: RunControl;
  dataset: Dataset;
  cache: ScoreCache | undefined;
}

function contextOf(shared: Shared, own: Own): RunContext {
  const { config, dry } = shared;
  const { runner, log, dataset, cache } = own;
  const run: RunContext = {
    ...shared,
    ...runner.tools(),
    log,
    stage: (stage, inputs) => runner.stage(stage, inputs),
    amend: (stage, result, value) => runner.amend(stage, result, value),
    option: (path) => given(pickOptions(config, [path]), recordedOptions(config, [path])),
    async withTeacher(spec, work) {
      if (dry || !cache) {
        const key = await teacherKey(spec, dataset);
        return work(given({ key }, { 'the teacher': key }));
      }
      const opened = await openTeacher(spec, config, dataset, cache);
      try {
        return await work(given(opened, { 'the teacher': opened.key }));
      } finally {
        await opened.close();
      }
    },
    foreseen(pipeline) {
      const watch = { signal: own.watch.signal };
      const unseen = new RunLog(watch);
      return pipeline(
        contextOf({ ...shared, dry: 'brief' }, { ...own, watch, log: unseen, runner: runner.brief(unseen, watch) }),
      );
    },
    async inside<T>(name: string, pipeline: (run: RunContext) => Promise<T>): Promise<T> {
      const watch = named(own.watch, name);
      const inner = new RunLog(dry ? { signal: watch.signal } : watch);
      const store = await ArtifactStore.open(run.path(name));
      try {
        return await pipeline(
          contextOf(shared, { ...own, watch, log: inner, runner: runner.inside(name, store, inner, watch) }),
        );
      } finally {
        log.include(name, inner);
      }
    },
    async runInside<T>(
      name: string,
      options: Config,
      pipeline: (run: RunContext) => Promise<Result<T>>,
      after: readonly Result<unknown>[] = [],
    ): Promise<Result<T>> {
      const inner: Config = { ...options, output: run.path(name) };
      log.runs.push({ name, config: inner });
      if (!after.every((r) => r.known)) {
        log.record({ stage: name, status: 'depends', why: 'on models that an earlier run in this one makes' });
        return lazily({}, false, async () => Promise.reject(new Error()));
      }
      return openRun(
        inner,
        named(own.watch, name),
        async (context) => {
          try {
            return await pipeline(context);
          } finally {
            log.include(name, context.log);
          }
        },
        dry,
      );
    },
  };
  return run;
}

/** Where a run cuts the texts of its student and its embedder, as far as they are folders. */
function cutsOf({ student, embedder }: Config): Cut[] {
  const { queryTokens, documentTokens } = student;
  const [own, model] = [trainedEncoder(student), localModel(embedder)];
  return [
    ...(own !== undefined ? [{ option: 'student' as const, model: own, queryTokens, documentTokens }] : []),
    ...(model !== undefined && embedder && 'queryTokens' in embedder
      ? [{ option: 'embedder' as const, ...embedder, model }]
      : []),
  ];
}

/** Progress of a run inside a run, with the name of that run. */
const named = (watch: RunControl, name: string): RunControl => ({
  ...watch,
  onProgress:
    watch.onProgress && ((p) => watch.onProgress?.({ ...p, run: p.run === undefined ? name : `${name}/${p.run}` })),
});
