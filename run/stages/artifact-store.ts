/** @file What a run's folder holds of earlier work: for each stage its fingerprint and the checksums of its files. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashFile, writeWhole } from '../../common/files.ts';
import { changes, type Fingerprint } from './fingerprint.ts';

interface Entry {
  key: Fingerprint;
  /** sha256 of each file, by its path in the folder. */
  files: Record<string, string>;
}

const FILE = 'stages.json';
/** Why a stage is made for the first time. */
export const NEVER_MADE = 'not made yet';

export class ArtifactStore {
  private readonly folder: string;
  private readonly entries: Map<string, Entry>;

  private constructor(folder: string, entries: Map<string, Entry>) {
    this.folder = folder;
    this.entries = entries;
  }

  /** The store of a folder; a list that is missing or torn is an empty one. */
  static async open(folder: string): Promise<ArtifactStore> {
    const entries = await readFile(join(folder, FILE), 'utf8')
      .then((text) => Object.entries(JSON.parse(text) as Record<string, Entry>).filter(([, e]) => e?.key && e.files))
      .catch(() => []);
    return new ArtifactStore(folder, new Map(entries));
  }

  /** Why a stage has to be made again; undefined where it can be used as it is. */
  async why(stage: string, fingerprint: Fingerprint): Promise<string | undefined> {
    const entry = this.entries.get(stage);
    if (!entry) return NEVER_MADE;
    const changed = changes(entry.key, fingerprint);
    if (changed) return changed;
    for (const [file, hash] of Object.entries(entry.files)) {
      const path = join(this.folder, file);
      if (!existsSync(path)) return `${file} is missing`;
      if ((await hashFile(path)) !== hash) return `the bytes of ${file} changed`;
    }
    return undefined;
  }

  /** Written when the stage's files are. */
  async record(stage: string, fingerprint: Fingerprint, files: readonly string[]): Promise<void> {
    const hashes: Record<string, string> = {};
    for (const file of files) hashes[file] = await hashFile(join(this.folder, file));
    this.entries.set(stage, { key: fingerprint, files: hashes });
    await writeWhole(join(this.folder, FILE), canonicalJson(Object.fromEntries(this.entries)));
  }
}
