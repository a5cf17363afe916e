/** @file The trained re-ranker as a folder: the frozen encoder as it was, and the re-ranker's files next to it. */
import { VERSION } from '../../common/version.ts';
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../../engine/io/safetensors.ts';
import { card } from '../../evaluation/runs/model-card.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import type { RunStates } from '../../evaluation/systems/late/rank.ts';
import { type Checkpoint, writeCheckpoint } from '../../models/checkpoint.ts';
import { tokenWidth, withUnit } from '../../models/modules/head.ts';
import { sentenceFiles } from '../../models/modules/write-modules.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { huggingFaceWeights } from '../../students/export/torch-names.ts';
import { lateFiles, pylateFiles } from '../../students/late/late-folder.ts';
import type { LateWeights } from '../../students/late/scorer.ts';
import { parameterCount, type Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Trained } from '../fit/parts/fit.ts';
import { FOLDER, keepFolder, madeBy } from '../publish/saved-folder.ts';
import { sidesOf } from './states.ts';
import { settingsOf } from './train.ts';

const WEIGHTS = 'model.safetensors';

interface Saving {
  student: Student;
  states: RunStates;
  trained: Trained;
  data: Dataset;
  teacher?: OpenedTeacher;
  embedder: OpenedTeacher;
  /** All options, which are written down. */
  config: Config;
}

/** OUTPUT/checkpoint. */
export const lateCheckpoint = defineStage({
  name: 'checkpoint',
  options: [],
  unrecorded: ['student', 'embedder'],
  unchanged: 'whole, and of this training',
  async make(
    options,
    { student, states, trained, data, teacher, embedder, config }: Saving,
    { path, time },
  ): Promise<Saved> {
    const folder = path(FOLDER);
    const nothing = new Map();
    const graph = await student.inferenceGraph(nothing);
    const model = encodeGraph(graph);
    const head = withUnit(student.headWith(nothing), student.normalize);
    const settings = settingsOf(options);
    const sides = sidesOf(options);
    const reads = { query: sides.queries.of.maxLength, document: sides.documents.of.maxLength };
    const weights = trained.weights as LateWeights;
    const sentence = {
      head,
      prompts: student.prompts,
      similarity: student.similarity,
      lowerCase: student.lowerCase,
      tokenWidth: tokenWidth(head, states.queries.dimensions),
      maxLength: Math.min(Math.max(reads.query, reads.document), student.positions),
    };
    const written = sentenceFiles(sentence);
    const files = new Map<string, Uint8Array | string>([
      ...lateFiles(settings, reads, weights),
      ...pylateFiles(
        {
          modules: written.get('modules.json') as string,
          config: written.get('config_sentence_transformers.json') as string,
        },
        reads,
        weights,
      ),
    ]);
    const named = huggingFaceWeights(graph, String(student.config.model_type));
    if ('weights' in named) files.set(WEIGHTS, encodeSafetensors(named.weights, { format: 'pt' }));
    const checkpoint: Checkpoint = {
      ...sentence,
      model,
      files,
      tokenizerFrom: student.folder.folder,
      tokenizer: student.tokenizer.hash || undefined,
      config: student.config,
      provenance: {
        version: VERSION,
        runtime: { node: process.version, onnxruntime: '1.30.0' },
        ...madeBy(config, data, trained, model, { teacher, embedder }),
      },
      card: card(config, data, { head, prompts: student.prompts, safetensors: files.has(WEIGHTS) }),
    };
    await time('save', () => writeCheckpoint(folder, checkpoint));
    const own = [...weights.values()].reduce((n, t) => n + t.data.length, 0);
    return { folder, bytes: model.length + 4 * own, parameters: parameterCount(graph) + own };
  },
  keep: keepFolder(['README.md', 'distill.json']),
});
