/**
 * @file Training state on disk: arrays as safetensors with checksums; a JSON file that names them is written last, so that a kill
 * leaves either the previous state or the new one.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../common/files.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../engine/io/safetensors.ts';
import type { Learner } from './host-learner.ts';

/** The key of a state in parts: a state is resumed only if every part is equal. */
export type StateKey = Readonly<Record<string, string>>;

export interface TrainingLogEntry {
  step: number;
  loss: number;
  terms: number[];
  gradientNorm: number;
  learningRate: number;
  seconds: number;
}

/** Progress of a training. */
export interface RunState {
  step: number;
  bestStep: number;
  bestScore: number | undefined;
  log: TrainingLogEntry[];
  evaluations: { step: number; score: number }[];
  skipped: number;
}

interface SavedState extends RunState {
  key: StateKey;
  updates: number;
  hash: string;
  bestHash?: string;
}

/** Arrays of the state in addition to the learner's. */
export interface KeptArrays {
  get(): Readonly<Record<string, Tensor>>;
  /** @throws Error where an array is missing */
  set(tensors: ReadonlyMap<string, Tensor>): void;
}

/** Several groups of arrays as one; their names differ. */
export function keptWith(...all: readonly (KeptArrays | undefined)[]): KeptArrays {
  const parts = all.filter((k): k is KeptArrays => k !== undefined);
  return {
    get: () => Object.assign({}, ...parts.map((k) => k.get())),
    set(tensors) {
      for (const k of parts) k.set(tensors);
    },
  };
}

type Learned = Pick<Learner<never>, 'state' | 'restore' | 'updates'>;

const KEPT = 'kept:';
const JSON_FILE = 'state.json';
/** Names of all parts of a state. */
export const STATE_FILES = /^((state|best)-\d+\.safetensors|state\.json)$/;

/** Parts in which two keys differ. */
export const differing = (a: StateKey, b: StateKey): string[] =>
  [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((part) => a[part] !== b[part]).sort();

/** Key and progress of a saved state; undefined if there is no readable one. */
export async function peekState(folder: string): Promise<{ key: StateKey; step: number } | undefined> {
  try {
    const { key, step }: SavedState = JSON.parse(await readFile(join(folder, JSON_FILE), 'utf8'));
    return key && typeof key === 'object' ? { key, step } : undefined;
  } catch {
    return undefined;
  }
}

export class StateFolder {
  private readonly folder: string;
  private readonly key: StateKey;
  private readonly learner: Learned;
  private readonly kept: KeptArrays | undefined;
  private readonly say: (note: string) => void;
  private bestHash: string | undefined;
  private saved = -1;

  constructor(
    folder: string,
    key: StateKey,
    learner: Learned,
    kept: KeptArrays | undefined,
    say: (note: string) => void,
  ) {
    this.folder = folder;
    this.key = key;
    this.learner = learner;
    this.kept = kept;
    this.say = say;
  }

  /** Restores the state of this training into the learner and the other arrays, if it exists and is complete. */
  async load(): Promise<{ run: RunState; best?: Map<string, Tensor> } | undefined> {
    if (!existsSync(join(this.folder, JSON_FILE))) return undefined;
    try {
      const { key, updates, hash, bestHash, ...run }: SavedState = JSON.parse(
        await readFile(join(this.folder, JSON_FILE), 'utf8'),
      );
      const other = differing(key, this.key);
      if (other.length) {
        this.say(
          `the state saved at step ${run.step} belongs to another training (${other.join(', ')} changed), training starts from the beginning`,
        );
        return undefined;
      }
      const state = await this.read(`state-${run.step}`, hash);
      const best = bestHash === undefined ? undefined : await this.read(`best-${run.bestStep}`, bestHash);
      const kept = [...state].filter(([name]) => name.startsWith(KEPT));
      await this.learner.restore(state, updates);
      this.kept?.set(new Map(kept.map(([name, tensor]) => [name.slice(KEPT.length), tensor])));
      this.bestHash = bestHash;
      this.saved = run.step;
      return { run: { ...run, bestScore: run.bestScore }, best };
    } catch (error) {
      this.say(`the saved state is damaged (${(error as Error).message}), training starts from the beginning`);
      return undefined;
    }
  }

  async save(run: RunState): Promise<void> {
    if (this.saved === run.step) return;
    const tensors = new Map(await this.learner.state());
    for (const [name, tensor] of Object.entries(this.kept?.get() ?? {})) tensors.set(KEPT + name, tensor);
    const hash = await this.write(`state-${run.step}`, tensors);
    const saved: SavedState = {
      ...run,
      key: this.key,
      updates: this.learner.updates,
      hash,
      ...(this.bestHash !== undefined && { bestHash: this.bestHash }),
    };
    await writeWhole(join(this.folder, JSON_FILE), canonicalJson(saved));
    this.saved = run.step;
    const wanted = [JSON_FILE, fileOf(`state-${run.step}`), fileOf(`best-${run.bestStep}`)];
    for (const name of await readdir(this.folder))
      if (STATE_FILES.test(name) && !wanted.includes(name)) await rm(join(this.folder, name), { force: true });
  }

  /** Saves the best weights so far; they are valid once the state that names them is saved. */
  async saveBest(step: number, weights: ReadonlyMap<string, Tensor>): Promise<void> {
    this.bestHash = await this.write(`best-${step}`, weights);
  }

  private async write(name: string, tensors: ReadonlyMap<string, Tensor>): Promise<string> {
    const bytes = encodeSafetensors(tensors);
    await writeWhole(join(this.folder, fileOf(name)), bytes);
    return hashParts(bytes);
  }

  private async read(name: string, hash: string): Promise<Map<string, Tensor>> {
    const bytes = await readFile(join(this.folder, fileOf(name)));
    if (hashParts(bytes) !== hash) throw new Error(`the checksum of ${fileOf(name)} does not match`);
    return parseSafetensors(bytes, name);
  }
}

const fileOf = (name: string): string => `${name}.safetensors`;
