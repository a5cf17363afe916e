/** @file What a stage is: a value next to its code that says what it reads, how its result is kept, and how it is made. */
import type { Reporting } from '../../common/progress.ts';
import type { OptionPath, Options } from '../../config/options.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { type Fingerprint, merged } from './fingerprint.ts';

/** A value that a pipeline passes from stage to stage, with what it was made of. */
export interface Result<T> {
  readonly fingerprint: Fingerprint;
  /** Whether the value is there or follows without work; always in a run, not always in a dry run. */
  readonly known: boolean;
  /** Loaded or made when first asked for. @throws Error where it is not known */
  value(): Promise<T>;
}

/** Results by the names that a stage reads them under; an optional input may be left out. */
export type Inputs<I> = { readonly [K in keyof I]: Result<NonNullable<I[K]>> | Extract<I[K], undefined> };

/** What `make` may do in addition to computing: report, time its parts, and use the run's folder. */
export interface Tools extends Reporting {
  /** A path under the folder of the run. */
  path(...names: string[]): string;
  /** What is now made of the stage's options and inputs. */
  readonly fingerprint: Fingerprint;
}

/** What a cache lacks of a stage's result. */
export interface Missing {
  count: number;
  of: number;
  unit: string;
}

/** How a result is kept in the folder of the run. */
export interface Keep<T, I> {
  /** Writes what `make` has not written. @returns paths under the folder, whose bytes have to stand as they are */
  save(result: T, inputs: I, tools: Tools): Promise<readonly string[]>;
  load(inputs: I, tools: Tools): Promise<T>;
  /** Whether `load` reads files alone: then a dry run can look at the result whatever it knows of the inputs. */
  readonly alone?: boolean;
  /** Removes what is not needed any more once the result is recorded. */
  settle?(tools: Tools): Promise<void>;
  /** What a stopped run has left of this stage, where it is not made from the beginning. */
  begun?(fingerprint: Fingerprint, tools: Tools): Promise<string | undefined>;
}

export interface Stage<T, P extends OptionPath, U extends OptionPath, I extends object> {
  /** As plans, reports and the artifact store name it. */
  readonly name: string;
  /** Options that the result depends on: they are recorded, and a change of one makes the stage again. */
  readonly options: readonly P[];
  /** Options that are read and not recorded: places of files, whose content is recorded, and what results do not depend on. */
  readonly unrecorded?: readonly U[];
  /** Inputs that count by their own content too: hashes under `parts`, which are not compared while an input is not known. */
  readonly content?: { readonly parts: readonly string[]; of(inputs: NoInfer<I>): Record<string, string> };
  /** A stage without `keep` and `cached` is made when its result is asked for, and stands in no plan. */
  readonly keep?: Keep<NoInfer<T>, NoInfer<I>>;
  /**
   * For a result that a cache keeps piece by piece: what the cache lacks, or why nothing is asked for; undefined where inputs
   * would have to be known.
   */
  cached?(
    options: Options<P | U>,
    inputs: Partial<I>,
    cache: ScoreCache | undefined,
  ): Promise<Missing | string | undefined>;
  /** Whether a dry run makes it too: no model is asked and nothing is written. */
  foreseen?(options: Options<NoInfer<P | U>>): boolean;
  /** What a plan says where nothing has changed. */
  readonly unchanged?: string;
  /** What a run says where an earlier result is used. */
  readonly reused?: string;
  make(options: Options<P | U>, inputs: I, tools: Tools): T | Promise<T>;
}

/** A stage as a value; types follow from the lists of options and from the inputs that `make` declares. */
export const defineStage = <T, const P extends OptionPath, I extends object, const U extends OptionPath = never>(
  stage: Stage<T, P, U, I>,
): Stage<T, P, U, I> => stage;

/** A value that is there already. */
export const given = <T>(value: T, fingerprint: Fingerprint = {}): Result<T> => ({
  fingerprint,
  known: true,
  value: async () => value,
});

/** A value that is made once, when it is first asked for. */
export function lazily<T>(fingerprint: Fingerprint, known: boolean, make: () => Promise<T>): Result<T> {
  let made: Promise<T> | undefined;
  return {
    fingerprint,
    known,
    value() {
      if (!known) throw new Error('a dry run does not make this');
      made ??= make();
      return made;
    },
  };
}

/** What results hold, by the same names. */
export type ValuesOf<R> = {
  [K in keyof R]: R[K] extends Result<infer T> | undefined ? T | Extract<R[K], undefined> : never;
};

/** The values of results; one that is not known is left out. */
export async function valuesOf(results: object): Promise<Record<string, unknown>> {
  const known = Object.entries(results as Record<string, Result<unknown> | undefined>).filter(([, r]) => r?.known);
  return Object.fromEntries(await Promise.all(known.map(async ([name, r]) => [name, await r?.value()])));
}

/** What follows from results by plain code, without options and without work: known wherever they are. */
export function derive<R extends object, T>(results: R, make: (values: ValuesOf<R>) => T | Promise<T>): Result<T> {
  const all = Object.values(results).filter((r): r is Result<unknown> => r !== undefined);
  return lazily(
    merged(...all.map((r) => r.fingerprint)),
    all.every((r) => r.known),
    async () => make((await valuesOf(results)) as ValuesOf<R>),
  );
}
