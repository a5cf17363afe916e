/** @file The trained sparse student as a folder that sentence-transformers' SparseEncoder loads. */
import { VERSION } from '../../../common/version.ts';
import type { Config } from '../../../config/config.ts';
import { kindOf } from '../../../config/student.ts';
import type { Dataset } from '../../../data/dataset.ts';
import { encodeGraph } from '../../../engine/io/onnx-file.ts';
import type { Saved } from '../../../evaluation/runs/saved.ts';
import { writeSparseFolder } from '../../../models/sparse/sparse-folder.ts';
import { defineStage } from '../../../run/stages/stage.ts';
import { sparseInt8 } from '../../../students/sparse/int8.ts';
import { queryWeights } from '../../../students/sparse/sparse-student.ts';
import { maskedModel } from '../../../students/sparse/torch-weights.ts';
import { parameterCount, type Student } from '../../../students/student.ts';
import type { OpenedTeacher } from '../../../teachers/open-model.ts';
import type { Trained } from '../../fit/parts/fit.ts';
import { FOLDER, keepFolder, madeBy } from '../saved-folder.ts';

interface Saving {
  student: Student;
  trained: Trained;
  data: Dataset;
  teacher?: OpenedTeacher;
  /** All options, which are written down. */
  config: Config;
}

/** OUTPUT/checkpoint. */
export const sparseCheckpoint = defineStage({
  name: 'checkpoint',
  options: [],
  unrecorded: ['student.documentTokens', 'student.queryTokens'],
  unchanged: 'whole, and of this training',
  async make(options, { student, trained, data, teacher, config }: Saving, { path, time, note }): Promise<Saved> {
    const folder = path(FOLDER);
    const graph = await student.inferenceGraph(trained.weights);
    const model = encodeGraph(graph);
    const torch = maskedModel(student, trained.weights);
    if ('problem' in torch)
      note(
        `SparseEncoder of sentence-transformers will not load the checkpoint: ${torch.problem}; its ONNX file is whole`,
      );
    const { queryTokens, documentTokens } = options.student;
    await time('save', () =>
      writeSparseFolder(folder, {
        model,
        int8: sparseInt8(graph),
        queries: queryWeights(student, trained.weights),
        learned: student.sparse?.learned === true,
        torch: 'problem' in torch ? undefined : torch,
        tokenizerFrom: student.folder.folder,
        lowerCase: student.lowerCase,
        prompts: student.prompts,
        queryTokens,
        documentTokens: Math.min(documentTokens, student.positions),
        positions: student.positions,
        config: student.config,
        provenance: {
          version: VERSION,
          ...madeBy(config, data, trained, model, { teacher }),
        },
        card: cardOf(config, data),
      }),
    );
    return { folder, bytes: model.length, parameters: parameterCount(graph) };
  },
  keep: keepFolder(),
});

const cardOf = (config: Config, { name }: Dataset): string =>
  [
    '---',
    'library_name: sentence-transformers',
    'tags: [sparse-encoder, sparse, onnx, knowledge-distillation]',
    '---',
    '',
    `# Sparse student distilled on ${name}`,
    '',
    `Made by onnx-distill ${VERSION}. ${kindOf(config.student).card}`,
    `Losses: ${config.losses.map((l) => `${l.weight} x ${l.kind}`).join(' + ')}. Seed ${config.seed}. What made it is in distill.json.`,
    '',
    '```python',
    'from sentence_transformers import SparseEncoder',
    '',
    'model = SparseEncoder(FOLDER)',
    'model.similarity(model.encode_query(["a query"]), model.encode_document(["a document"]))',
    '```',
    '',
  ].join('\n');
