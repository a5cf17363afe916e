/** @file The log of a run: the status of each stage with its reason, seconds, warnings. */
import type { RunControl } from '../../common/progress.ts';
import type { Config } from '../../config/config.ts';
import type { Missing } from './stage.ts';

/** The status of a stage, and why. */
export interface StagePlan {
  stage: string;
  /** `depends`: on what an earlier stage of the run will find. */
  status: 'made' | 'reused' | 'depends';
  why: string;
  /** Scores or embeddings that the cache lacks. */
  missing?: Missing;
  /** What it would take, in a dry run. */
  estimate?: Estimate;
}

/** What a stage would take. */
export interface Estimate {
  /** Absent where no estimate can be had. */
  seconds?: number;
  /** Memory of the process at its largest, about. */
  bytes?: number;
  /** How it was had, or why there is none. */
  how: string;
}

/** A run inside another one. */
export interface InnerRun {
  /** As the names of its stages begin. */
  name: string;
  config: Config;
}

/** Whether the work of each stage was done, or an earlier result used. */
export const stagesMade = ({ stages }: Pick<RunLog, 'stages'>): Record<string, 'made' | 'reused'> =>
  Object.fromEntries(stages.map(({ stage, status }) => [stage, status === 'made' ? 'made' : 'reused']));

export class RunLog {
  /** Runs inside this one. */
  readonly runs: InnerRun[] = [];
  /** Seconds by name of the work. */
  readonly seconds: Record<string, number> = {};
  readonly warnings = new Map<string, string>();
  private readonly entries = new Map<string, StagePlan>();
  private readonly watch: RunControl;

  constructor(watch: RunControl) {
    this.watch = watch;
  }

  note(text: string): void {
    this.watch.onProgress?.({ stage: 'run', done: 0, unit: 'stages', note: text });
  }

  warn(code: string, text: string): void {
    this.warnings.set(code, text);
    this.note(`warning: ${text}`);
  }

  async time<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    this.watch.signal?.throwIfAborted();
    const started = performance.now();
    const result = await work();
    this.add(name, (performance.now() - started) / 1000);
    return result;
  }

  /** Records the status of a stage; two stages of one name (embeddings of documents and of queries) have one entry. */
  record(plan: StagePlan): void {
    const before = this.entries.get(plan.stage);
    const rank = ['reused', 'made', 'depends'] as const;
    const both = before && [before, plan].sort((a, b) => rank.indexOf(b.status) - rank.indexOf(a.status))[0];
    const missing = before?.missing && plan.missing ? sum(before.missing, plan.missing) : plan.missing;
    const status = both?.status ?? plan.status;
    const why = missing && status !== 'depends' ? whyMissing(missing) : (both?.why ?? plan.why);
    this.entries.set(plan.stage, {
      stage: plan.stage,
      status,
      why,
      ...(missing && status !== 'depends' && { missing }),
    });
  }

  get stages(): StagePlan[] {
    return [...this.entries.values()];
  }

  /** Takes over the log of a run inside this one. */
  include(name: string, inner: RunLog): void {
    for (const [part, seconds] of Object.entries(inner.seconds)) this.add(part, seconds);
    for (const [code, text] of inner.warnings) this.warnings.set(code, text);
    for (const run of inner.runs) this.runs.push({ ...run, name: `${name}/${run.name}` });
    for (const plan of inner.stages) this.record({ ...plan, stage: `${name}/${plan.stage}` });
  }

  private add(name: string, seconds: number): void {
    this.seconds[name] = (this.seconds[name] ?? 0) + seconds;
  }
}

const sum = (a: Missing, b: Missing): Missing => ({ count: a.count + b.count, of: a.of + b.of, unit: a.unit });

/** How much a cache lacks, in words. */
export function whyMissing({ count, of, unit }: Missing): string {
  const number = (n: number): string => n.toLocaleString('en');
  return count ? `${number(count)} of ${number(of)} ${unit} missing` : `all ${number(of)} ${unit} are in the cache`;
}
