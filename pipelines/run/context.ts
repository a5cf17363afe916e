/** @file What every stage of a run shares: options, data, teachers, and a clock. */
import { join } from 'node:path';
import type { Watch } from '../../common/progress.ts';
import { VERSION } from '../../common/version.ts';
import type { Dataset } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import type { LossInput } from '../../losses/index.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import type { WeightedLoss } from '../../training/step/dual-encoder-step.ts';
import type { Config } from '../config/config.ts';
import { loadLosses, needsOf } from '../config/losses.ts';
import { Ledger } from './artifact-store.ts';
import { withMemory } from './memory-budget.ts';
import { openTeachers, type Teachers } from './open-teachers.ts';
import { claimOutput } from './output-folder.ts';
import { type StageKeys, type StageName, stageKeys, stagesOf } from './stage-keys.ts';
import { warnOfData } from './warnings.ts';

export interface Job {
  readonly config: Config;
  readonly watch: Watch;
  readonly dataset: Dataset;
  /** Scores pairs; absent where labels or embeddings alone teach. */
  readonly teacher: Teacher | undefined;
  readonly embedder: Teacher | undefined;
  /** Both without the cache, to be timed. */
  readonly uncached: Teachers['uncached'];
  /** Whether documents are the embedder's and are not encoded by the student. */
  readonly frozenDocuments: boolean;
  readonly losses: readonly WeightedLoss[];
  /** Everything that some loss cannot do without. */
  readonly needs: ReadonlySet<LossInput>;
  /** Seconds by stage. */
  readonly seconds: Record<string, number>;
  /** What each stage depends on. */
  readonly keys: StageKeys;
  /** What the output folder holds of earlier work. */
  readonly ledger: Ledger;
  /** Scores and embeddings that no cache had, so far. */
  asked(): number;
  /** Says whether a stage's work was done in this run or taken from an earlier one. */
  did(stage: StageName, made: boolean): void;
  /** Stages by whether this run did their work. */
  readonly made: ReadonlyMap<StageName, boolean>;
  /** Does a piece of the work under a name and adds up its time. */
  stage<T>(name: string, work: () => T | Promise<T>): Promise<T>;
  /** Says something worth keeping. */
  note(text: string): void;
  /** Says that something is probably wrong, with figures; it stands in the report too. The same code again replaces it. */
  warn(code: string, text: string): void;
  readonly warnings: ReadonlyMap<string, string>;
  /** A path under the output folder. */
  path(...names: string[]): string;
}

/** Opens data and teachers, does the work and closes them again. */
export async function withJob<T>(config: Config, watch: Watch, work: (job: Job) => Promise<T>): Promise<T> {
  const seconds: Record<string, number> = {};
  const stage: Job['stage'] = async (name, run) => {
    watch.signal?.throwIfAborted();
    const started = performance.now();
    const result = await run();
    seconds[name] = (seconds[name] ?? 0) + (performance.now() - started) / 1000;
    return result;
  };
  const note = (text: string): void => watch.onProgress?.({ stage: 'run', done: 0, unit: 'stages', note: text });
  const warnings = new Map<string, string>();
  const warn: Job['warn'] = (code, text) => {
    warnings.set(code, text);
    note(`warning: ${text}`);
  };
  const frozenDocuments = config.student.towers === 'query';
  const losses = await loadLosses(config.losses, frozenDocuments, config.matryoshka, config.folder);
  const unlock = await claimOutput(config, VERSION);
  try {
    return await opened();
  } finally {
    await unlock();
  }

  async function opened(): Promise<T> {
    const dataset = await stage('data', () => openDataset(config.data.path as string, config.data));
    note(
      `${dataset.documents.length} documents, ${dataset.queries.length} queries, splits ${dataset.splits.join(', ')}`,
    );
    for (const text of dataset.notes ?? []) note(text);
    warnOfData(config, dataset, warn);
    const limited = await withMemory(config, dataset, watch, note);
    const { teacher, embedder, uncached, asked, close } = await stage('open teachers', () =>
      openTeachers(config, dataset),
    );
    try {
      const keys = await stageKeys(config, dataset, { teacher: teacher?.key, embedder: embedder?.key });
      const ledger = await Ledger.open(config.output);
      const made = new Map([...stagesOf(config)].map((s) => [s, false]));
      const did: Job['did'] = (s, now) => made.set(s, now || made.get(s) === true);
      did('data', (await ledger.why('data', keys.data)) !== undefined);
      await ledger.record('data', keys.data, []);
      return await work({
        config,
        watch: limited,
        dataset,
        teacher,
        embedder,
        uncached,
        keys,
        ledger,
        asked,
        did,
        made,
        frozenDocuments,
        losses,
        needs: needsOf(losses),
        seconds,
        stage,
        note,
        warn,
        warnings,
        path: (...names) => join(config.output, ...names),
      });
    } finally {
      await close();
    }
  }
}
