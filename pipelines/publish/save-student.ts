/** @file The trained student as a folder that other tools load, with what made it. */
import { existsSync } from 'node:fs';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { replaceFolder } from '../../common/replace.ts';
import { VERSION } from '../../common/version.ts';
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { exitGraph } from '../../engine/passes/exits.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { card } from '../../evaluation/runs/model-card.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import { opsetWarning, writeCheckpoint } from '../../models/checkpoint.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { tokenWidth } from '../../models/modules/head.ts';
import { readSentenceFolder } from '../../models/sentence-folder.ts';
import { defineStage, type Tools } from '../../run/stages/stage.ts';
import { torchFamily } from '../../students/architectures/index.ts';
import { exitFile } from '../../students/export/dtypes.ts';
import { huggingFaceWeights } from '../../students/export/torch-names.ts';
import { parameterCount, type Student } from '../../students/student.ts';
import { encoderOf, encodingOf } from '../../students/student-scores.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Trained } from '../fit/parts/fit.ts';
import { FOLDER, keepFolder, madeBy } from './saved-folder.ts';

/** Files of a checkpoint that say what is known of it, and not what it is. */
const CARD = 'README.md';
const PROVENANCE = 'distill.json';
const WEIGHTS = 'model.safetensors';

interface Saving {
  student: Student;
  trained: Trained;
  data: Dataset;
  teacher?: OpenedTeacher;
  embedder?: OpenedTeacher;
  /** All options, which are written down. */
  config: Config;
}

/** OUTPUT/checkpoint. */
export const checkpoint = defineStage({
  name: 'checkpoint',
  options: [],
  // Exits are the training's, which is an input.
  unrecorded: ['train.exits', 'student.documentTokens', 'student.queryTokens', 'train.provider', 'train.threads'],
  unchanged: 'whole, and of this training',
  async make(
    options,
    { student, trained, data, teacher, embedder, config }: Saving,
    { path, time, warn },
  ): Promise<Saved> {
    const folder = path(FOLDER);
    const graph = await student.inferenceGraph(trained.weights);
    const head = student.headWith(trained.weights);
    const model = encodeGraph(graph);
    const tooNew = opsetWarning(graph.opset);
    if (tooNew) warn('checkpoint.opset', tooNew);
    // With these weights next to the ONNX file, SentenceTransformer(FOLDER) loads without an argument.
    const named = huggingFaceWeights(graph, torchFamily(student.config));
    const files = new Map<string, Uint8Array | string>();
    if ('weights' in named) files.set(WEIGHTS, encodeSafetensors(named.weights, { format: 'pt' }));
    for (const n of options.train.exits ?? []) files.set(exitFile(n), encodeGraph(exitGraph(graph, n)));
    const encoder = await encoderOf(student, trained.weights, await encodingOf(options));
    const { dimensions } = encoder;
    await encoder.dispose();
    const { queryTokens, documentTokens } = options.student;
    await time('save', () =>
      writeCheckpoint(folder, {
        model,
        files,
        tokenizerFrom: student.folder.folder,
        tokenizer: student.tokenizer.hash || undefined,
        config: student.config,
        head,
        prompts: student.prompts,
        similarity: student.similarity,
        lowerCase: student.lowerCase,
        tokenWidth: tokenWidth(head, dimensions),
        // Other tools cut texts here and nowhere else: beyond its positions a model fails.
        maxLength: Math.min(Math.max(queryTokens, documentTokens), student.positions),
        provenance: {
          version: VERSION,
          runtime: { node: process.version, onnxruntime: '1.30.0' },
          ...madeBy(config, data, trained, model, { teacher, embedder }),
        },
        card: card(config, data, { head, prompts: student.prompts, safetensors: files.has(WEIGHTS) }),
      }),
    );
    return { folder, bytes: model.length, parameters: parameterCount(graph) };
  },
  keep: keepFolder([CARD, PROVENANCE]),
});

/** Puts the figures into the checkpoint's card and provenance, once the folder has been measured; where they are there, it stays. */
export async function describeCheckpoint(
  config: Config,
  data: Dataset,
  figures: Figures,
  { path }: Pick<Tools, 'path'>,
): Promise<void> {
  const folder = path(FOLDER);
  const provenance = JSON.parse(await readFile(join(folder, PROVENANCE), 'utf8'));
  const { head, prompts } = await readSentenceFolder(await readModelFolder(folder));
  const safetensors = existsSync(join(folder, WEIGHTS));
  const about = new Map([
    [PROVENANCE, `${JSON.stringify({ ...provenance, systems: figures.systems }, null, 2)}\n`],
    // As a report that is read again has them.
    [CARD, card(config, data, { head, prompts, safetensors, figures: JSON.parse(JSON.stringify(figures)) })],
  ]);
  const before = await Promise.all(
    [...about.keys()].map((name) => readFile(join(folder, name), 'utf8').catch(() => '')),
  );
  if ([...about.values()].every((text, i) => text === before[i])) return;
  await replaceFolder(folder, async (copy) => {
    await cp(folder, copy, { recursive: true });
    for (const [name, text] of about) await writeFile(join(copy, name), text);
  });
}
