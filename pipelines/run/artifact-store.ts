/**
 * @file What an output folder holds of earlier work: for each stage what it was made of and the checksums of its files, so that a
 * run knows what it can use again, and why not the rest.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashFile, writeWhole } from '../../common/files.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import { differing, type StateKey } from '../../training/training-state.ts';

interface Entry {
  key: StateKey;
  /** sha256 of each file, by its path in the folder. */
  files: Record<string, string>;
}

const FILE = 'stages.json';
/** Why a stage is made for the first time. */
export const NEVER_MADE = 'not made yet';

export class Ledger {
  private readonly output: string;
  private readonly entries: Map<string, Entry>;

  private constructor(output: string, entries: Map<string, Entry>) {
    this.output = output;
    this.entries = entries;
  }

  /** What the folder says; a file that is missing or torn says nothing. */
  static async open(output: string): Promise<Ledger> {
    const entries = await readFile(join(output, FILE), 'utf8')
      .then(
        (text) => Object.entries(JSON.parse(text) as Record<string, Entry>).filter(([, e]) => e?.key && e.files),
        () => [],
      )
      .catch(() => []);
    return new Ledger(output, new Map(entries));
  }

  /**
   * Why a stage has to be made again; undefined where it can be used as it is.
   * @param apart parts that are not compared
   */
  async why(stage: string, key: StateKey, apart: readonly string[] = []): Promise<string | undefined> {
    const entry = this.entries.get(stage);
    if (!entry) return NEVER_MADE;
    const other = differing(entry.key, key).filter((part) => !apart.includes(part));
    if (other.length) return other.map((part) => changed(part, entry.key[part], key[part])).join(', ');
    for (const [file, hash] of Object.entries(entry.files)) {
      const path = join(this.output, file);
      if (!existsSync(path)) return `${file} is missing`;
      if ((await hashFile(path)) !== hash) return `the bytes of ${file} changed`;
    }
    return undefined;
  }

  /** Written when the stage's files are. */
  async record(stage: string, key: StateKey, files: readonly string[]): Promise<void> {
    const hashes: Record<string, string> = {};
    for (const file of files) hashes[file] = await hashFile(join(this.output, file));
    this.entries.set(stage, { key, files: hashes });
    await writeWhole(join(this.output, FILE), canonicalJson(Object.fromEntries(this.entries)));
  }

  /** Arrays that a stage left. @throws where they are not there */
  async arrays(stage: string): Promise<Map<string, Tensor>> {
    const file = arraysFile(stage);
    return parseSafetensors(await readFile(join(this.output, file)), file);
  }

  async recordArrays(stage: string, key: StateKey, arrays: ReadonlyMap<string, Tensor>): Promise<void> {
    await writeWhole(join(this.output, arraysFile(stage)), encodeSafetensors(arrays));
    await this.record(stage, key, [arraysFile(stage)]);
  }
}

const arraysFile = (stage: string): string => join('stages', `${stage}.safetensors`);

/** `train.learningRate changed from 0.0002 to 0.0001`; content is not shown. */
function changed(part: string, before: string | undefined, now: string | undefined): string {
  const shown = [before, now].map((v) => v ?? 'nothing');
  const readable = !part.startsWith('the ') && shown.every((v) => v.length <= 60 && !/^[0-9a-f]{64}$/.test(v));
  return readable ? `${part} changed from ${shown[0]} to ${shown[1]}` : `${part} changed`;
}
