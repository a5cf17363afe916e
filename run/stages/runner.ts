/** @file Walks stages: loads a result where nothing that it depends on has changed, else makes and records it, or says so. */
import { join } from 'node:path';
import type { RunControl } from '../../common/progress.ts';
import type { Config } from '../../config/config.ts';
import { type OptionPath, type Options, pickOptions, recordedOptions } from '../../config/options.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { ArtifactStore } from './artifact-store.ts';
import { type Fingerprint, merged } from './fingerprint.ts';
import { type RunLog, whyMissing } from './run-log.ts';
import { given, type Inputs, type Keep, lazily, type Result, type Stage, type Tools, valuesOf } from './stage.ts';

/** Whether nothing is made and nothing is written, but for what stages foresee (`foreseen`), unless it is 'brief'. */
export type Dry = boolean | 'brief';

/** What stages are walked with. */
export interface Surroundings {
  config: Config;
  /** Folder of the run. */
  folder: string;
  store: ArtifactStore;
  watch: RunControl;
  log: RunLog;
  dry: Dry;
  /** Scores and embeddings of earlier runs; in a dry run absent where there are none. */
  cache: ScoreCache | undefined;
}

export class StageRunner {
  private readonly around: Surroundings;

  constructor(around: Surroundings) {
    this.around = around;
  }

  /** A result by its stage: in a run there afterwards, in a dry run known where it follows without work. */
  async stage<T, P extends OptionPath, U extends OptionPath, I extends object>(
    stage: Stage<T, P, U, I>,
    inputs: Inputs<NoInfer<I>>,
  ): Promise<Result<T>> {
    const { config, dry, log } = this.around;
    const results = Object.values(inputs).filter((r): r is Result<unknown> => r !== undefined);
    const known = results.every((r) => r.known);
    const values = async (): Promise<I> => (await valuesOf(inputs)) as I;
    const fingerprint = merged(
      recordedOptions(config, stage.options, stage.unrecorded),
      ...results.map((r) => r.fingerprint),
      await contentOf(stage, known, values),
    );
    const options = pickOptions(config, [...stage.options, ...(stage.unrecorded ?? [])]) as Options<P | U>;
    const tools = this.tools(fingerprint);
    const make = async (): Promise<T> => stage.make(options, await values(), tools);
    const foreseen = known && (!dry || (dry !== 'brief' && stage.foreseen?.(options) === true));

    if (stage.keep) return this.kept(stage, stage.keep, { fingerprint, known, foreseen, values, make, tools });
    if (!stage.cached) return lazily(fingerprint, foreseen, make);
    if (dry) {
      const found = await stage.cached(options, await values(), this.around.cache);
      if (found === undefined) log.record({ stage: stage.name, status: 'depends', why: UNKNOWN });
      else if (typeof found === 'string') log.record({ stage: stage.name, status: 'reused', why: found });
      else {
        const status = found.count ? 'made' : 'reused';
        log.record({ stage: stage.name, status, why: whyMissing(found), missing: found });
      }
      return lazily(fingerprint, foreseen, make);
    }
    const before = this.around.cache?.asked;
    const value = await make();
    const asked = this.around.cache?.asked !== before;
    log.record({ stage: stage.name, status: asked ? 'made' : 'reused', why: asked ? 'asked' : 'all in the cache' });
    return given(value, fingerprint);
  }

  private async kept<T, P extends OptionPath, U extends OptionPath, I extends object>(
    stage: Stage<T, P, U, I>,
    keep: Keep<T, I>,
    { fingerprint, known, foreseen, values, make, tools }: Walked<T, I>,
  ): Promise<Result<T>> {
    const { dry, log, store } = this.around;
    const why = await store.why(stage.name, fingerprint);
    if (why === undefined) {
      log.record({ stage: stage.name, status: 'reused', why: stage.unchanged ?? UNCHANGED });
      if (!dry && stage.reused) log.note(stage.reused);
      if (!dry) await keep.settle?.(tools);
      return lazily(fingerprint, known || keep.alone === true, async () => keep.load(await values(), tools));
    }
    log.record({ stage: stage.name, status: 'made', why: (dry && (await keep.begun?.(fingerprint, tools))) || why });
    if (dry) return lazily(fingerprint, foreseen, make);
    const value = await make();
    await this.record(stage, keep, value, await values(), fingerprint);
    return given(value, fingerprint);
  }

  /** Keeps another value in the place of a stage's result: what was added to it depends on a stage of its own. */
  async amend<T, P extends OptionPath, U extends OptionPath, I extends object>(
    stage: Stage<T, P, U, I>,
    { fingerprint }: Result<T>,
    value: T,
  ): Promise<void> {
    // What `alone` keeps reads no inputs.
    if (stage.keep?.alone) await this.record(stage, stage.keep, value, {} as I, fingerprint);
  }

  /** The same walk in a folder of its own, with artefacts and a log of its own. */
  inside(name: string, store: ArtifactStore, log: RunLog, watch: RunControl): StageRunner {
    return new StageRunner({ ...this.around, folder: join(this.around.folder, name), store, log, watch });
  }

  /** The same walk, in which nothing is made. */
  brief(log: RunLog, watch: RunControl): StageRunner {
    return new StageRunner({ ...this.around, log, watch, dry: 'brief' });
  }

  tools(fingerprint: Fingerprint = {}): Tools {
    const { folder, log, watch } = this.around;
    return {
      watch,
      fingerprint,
      note: (text) => log.note(text),
      warn: (code, text) => log.warn(code, text),
      time: (name, work) => log.time(name, work),
      path: (...names) => join(folder, ...names),
    };
  }

  private async record<T, P extends OptionPath, U extends OptionPath, I extends object>(
    { name }: Stage<T, P, U, I>,
    keep: Keep<T, I>,
    value: T,
    inputs: I,
    fingerprint: Fingerprint,
  ): Promise<void> {
    const tools = this.tools(fingerprint);
    await this.around.store.record(name, fingerprint, await keep.save(value, inputs, tools));
    await keep.settle?.(tools);
  }
}

/** What is known of a stage before its result is looked for. */
interface Walked<T, I> {
  fingerprint: Fingerprint;
  known: boolean;
  foreseen: boolean;
  values(): Promise<I>;
  make(): Promise<T>;
  tools: Tools;
}

async function contentOf<T, P extends OptionPath, U extends OptionPath, I extends object>(
  { content }: Stage<T, P, U, I>,
  known: boolean,
  values: () => Promise<I>,
): Promise<Fingerprint> {
  if (!content) return {};
  return known ? content.of(await values()) : Object.fromEntries(content.parts.map((part) => [part, undefined]));
}

const UNCHANGED = 'nothing it depends on has changed';
const UNKNOWN = 'on what the stages before find; what the cache has is not asked for again';
