/** @file The export: a checkpoint's compact files, compared with it before they take their place. */
import { statSync } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { takeLock } from '../common/lock.ts';
import type { RunControl } from '../common/progress.ts';
import { finishReplacing, replaceFolder } from '../common/replace.ts';
import { type ExportSettings, parseExport } from '../config/export.ts';
import type { Dataset } from '../data/dataset.ts';
import { openAsRun } from '../data/open.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { type ExportFigures, type ExportQuality, exportQuality } from '../evaluation/systems/export-quality.ts';
import { opsetWarning, refuseOccupied } from '../models/checkpoint.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { type Provenance, readProvenance } from '../serving/encoder/checkpoint.ts';
import type { DTypeName } from '../students/export/dtypes.ts';
import { type ExportedFolder, exportFolder } from '../students/export/export-folder.ts';
import { isLateFolder } from '../students/late/late-folder.ts';

const LATE_NOTE =
  'the re-ranker (multi-vector.json) is not exported: these files are the dual-encoder that finds documents, and token vectors are computed from the checkpoint itself';

/** Which files are made of a checkpoint, and where. */
export interface ExportOptions extends ExportSettings {
  checkpoint: string;
  output: string;
  /** Whose dev split measures the files; without it nothing is measured. A checkpoint's distill.json names none that is read. */
  data?: string;
  split?: string;
}

/** Files made, their sizes and their quality. */
export interface ExportReport {
  output: string;
  /** The checkpoint as it is. */
  source: { bytes: number; figures?: ExportFigures };
  files: {
    dtype: DTypeName;
    file: string;
    bytes: number;
    /** Of a student with exits: the number of layers after which the file's model ends. */
    exit?: number;
    figures?: ExportFigures;
    change?: number;
  }[];
  vocabulary?: { before: number; used: number; after: number };
  tableShare?: number;
  safetensors: string;
  /** Why nothing was measured. */
  unmeasured?: string;
  warnings: string[];
  /** What a loader of the files must know. */
  notes: string[];
}

/**
 * Writes compact files of a checkpoint and, where there are data, compares each with it on the dev split.
 * @param opened the data, where they are in memory already
 * @throws InputError where the checkpoint, the data or an option does not fit; with `strict` also where quality falls
 */
export async function exportCheckpoint(
  options: ExportOptions,
  watch: RunControl = {},
  opened?: Dataset,
): Promise<ExportReport> {
  const { checkpoint, output, data: path, split: chosen, ...rest } = options;
  const settings = parseExport(rest);
  await refuseOccupied(output);
  const source = await readModelFolder(checkpoint);
  const made = await readProvenance(source.folder);
  // What distill.json calls the data is a stranger's word: a path is read where it is named on the command line.
  const split = chosen ?? made.data.splits?.dev ?? 'dev';
  const dataset = opened ?? (path !== undefined ? await openAsRun(path, made.data, [split], watch) : undefined);
  const dtypes = [settings.dtype].flat();
  const used = settings.vocabulary === 'corpus' ? await usedPieces(dataset, made, source.folder, watch) : undefined;

  const candidate = `${output}.export`;
  const unlock = await takeLock(`${output}.lock`, `the output folder ${output}`);
  try {
    await finishReplacing(output);
    await rm(candidate, { recursive: true, force: true });
    const exported = await exportFolder(checkpoint, candidate, { ...settings, dtypes, used }, { ...settings });
    if (exported.kept && dataset) await sameTokens(dataset, made, source.folder, candidate, exported.kept, watch);
    // Without the documents that it searches there is nothing to compare a query tower with.
    const quality =
      dataset?.splits.includes(split) && !made.elsewhere
        ? await exportQuality(dataset, split, checkpoint, made, settings, watch)
        : undefined;
    const report = await measure(exported, quality, candidate, settings.tolerance);
    const whole: ExportReport = {
      output,
      source: { bytes: statSync(source.model).size, figures: quality?.source },
      ...report,
      vocabulary: exported.kept && {
        before: (await TextTokenizer.load(source.folder)).vocabularySize,
        used: used?.size ?? 0,
        after: exported.kept.length,
      },
      tableShare: exported.tableShare,
      safetensors: !settings.safetensors ? 'not asked for' : (exported.safetensorsProblem ?? 'model.safetensors'),
      notes: [...notesOn(exported), ...(isLateFolder(source.folder) ? [LATE_NOTE] : [])],
      unmeasured: quality
        ? undefined
        : made.elsewhere
          ? 'its documents were embedded by a service or come from files'
          : dataset
            ? `the data has no split '${split}'`
            : 'no data was named with --data',
    };
    if (settings.strict && whole.warnings.length)
      throw new InputError({
        code: 'export.quality',
        subject: whole.warnings.join('; '),
        expected: `a loss of at most ${percent(settings.tolerance)}`,
        remedy: 'export with more dimensions or another dtype, or allow more with --tolerance',
      });
    if (whole.unmeasured && settings.strict)
      throw new InputError({
        code: 'export.unmeasured',
        subject: `--strict needs figures and ${whole.unmeasured}`,
        remedy: 'name a data set with a dev split: --data, --split',
      });
    const card = await readFile(join(candidate, 'README.md'), 'utf8');
    await writeWhole(join(candidate, 'README.md'), `${card.trimEnd()}\n\n${fileTable(whole)}`);
    await replaceFolder(output, async (into) => {
      await rm(into, { recursive: true });
      await rename(candidate, into);
    });
    return whole;
  } finally {
    await rm(candidate, { recursive: true, force: true });
    await unlock();
  }
}

/** Sentences on files that not every loader reads. */
function notesOn({ files, opset, student }: ExportedFolder): string[] {
  const warning = files.some((f) => f.file.endsWith('.onnx')) ? opsetWarning(opset) : undefined;
  return [...student.notes, ...(warning ? [warning] : [])];
}

async function measure(
  exported: ExportedFolder,
  quality: ExportQuality | undefined,
  folder: string,
  tolerance: number,
): Promise<Pick<ExportReport, 'files' | 'warnings'>> {
  const files: ExportReport['files'] = [];
  const warnings: string[] = [];
  for (const f of exported.files) {
    const figures = await quality?.measure(join(folder, f.file));
    const before = quality?.source['ndcg@10'];
    const change = figures && before ? figures['ndcg@10'] / before - 1 : undefined;
    files.push({ ...f, figures, change });
    // An earlier exit is not the checkpoint in another dtype: its loss is what was trained.
    if (f.exit === undefined && change !== undefined && change < -tolerance)
      warnings.push(`${f.file} loses ${percent(-change)} of the checkpoint's dev nDCG@10`);
  }
  return { files, warnings };
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

/** Ids that the corpus and the training queries use. Queries of other splits stay unseen. */
async function usedPieces(
  dataset: Dataset | undefined,
  made: Provenance,
  folder: string,
  watch: RunControl,
): Promise<Set<number>> {
  if (!dataset)
    throw new InputError({
      code: 'export.no-data',
      subject: '--vocabulary corpus needs the corpus',
      remedy: 'name the data folder with --data',
    });
  const tokenizer = await TextTokenizer.load(folder);
  const used = new Set<number>();
  eachText(dataset, made, watch, 'count pieces', (text) => {
    for (const id of tokenizer.plain(text)) used.add(id);
  });
  return used;
}

/** @throws Error, a defect, where a text of the corpus has other pieces than before */
async function sameTokens(
  dataset: Dataset,
  made: Provenance,
  before: string,
  after: string,
  kept: Int32Array,
  watch: RunControl,
): Promise<void> {
  const [old, cut] = await Promise.all([TextTokenizer.load(before), TextTokenizer.load(after)]);
  eachText(dataset, made, watch, 'compare tokens', (text) => {
    const ids = old.plain(text);
    const other = cut.plain(text);
    if (other.length !== ids.length || other.some((id, i) => kept[id] !== ids[i]))
      throw new Error(`the cut vocabulary tokenizes '${text.slice(0, 80)}' differently`);
  });
}

function eachText(
  dataset: Dataset,
  made: Provenance,
  watch: RunControl,
  stage: string,
  visit: (text: string) => void,
): void {
  const train = made.data.splits?.train ?? 'train';
  const queries = dataset.splits.includes(train) ? [...dataset.qrels(train).keys()] : [];
  const total = dataset.documents.length + queries.length;
  for (let i = 0; i < dataset.documents.length; i++) {
    if (i % 1000 === 0) {
      watch.signal?.throwIfAborted();
      watch.onProgress?.({ stage, done: i, total, unit: 'texts' });
    }
    visit(dataset.documents.text(i));
  }
  for (const id of queries) {
    const at = dataset.queries.indexOf(id);
    if (at !== undefined) visit(dataset.queries.text(at));
  }
  watch.onProgress?.({ stage, done: total, total, unit: 'texts' });
}

/** The files as a table of the model card. */
function fileTable(report: ExportReport): string {
  const number = (x: number | undefined, digits: number): string => (x === undefined ? '' : x.toFixed(digits));
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const { source } = report;
  return [
    '## Files',
    '',
    row(['file', 'MB', 'nDCG@10 (dev sample)', 'cosine to the checkpoint']),
    row(['---', '---', '---', '---']),
    row(['the checkpoint', number(source.bytes / 1e6, 2), number(source.figures?.['ndcg@10'], 4), '1']),
    ...report.files.map((f) =>
      row([f.file, number(f.bytes / 1e6, 2), number(f.figures?.['ndcg@10'], 4), number(f.figures?.cosine, 5)]),
    ),
    '',
  ].join('\n');
}
