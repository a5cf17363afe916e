/** @file The trained student as a folder that other tools load, with what made it. */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { canonicalJson, hashParts } from '../../common/files.ts';
import { VERSION } from '../../common/version.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';
import { positionsOf } from '../../models/model-folder.ts';
import { parameterCount, type Student } from '../../students/student.ts';
import { withAbsolutePaths } from '../config/paths.ts';
import type { Saved } from '../measure/saved.ts';
import { encoderOf } from '../prepare/student-scores.ts';
import type { Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import { card } from './model-card.ts';

/** Files of a checkpoint that say what is known of it, and not what it is. */
const ABOUT = ['README.md', 'distill.json'];

/** The student as an earlier run saved it, if it is whole and of this very training. */
export async function savedBefore(job: Job, student: Student, trained: Trained): Promise<Saved | undefined> {
  const why = await job.ledger.why('checkpoint', job.keys.checkpoint);
  if (why !== undefined) return undefined;
  const folder = job.path('checkpoint');
  const graph = await student.inferenceGraph(trained.weights);
  const { size } = await stat(join(folder, 'onnx', 'model.onnx'));
  return { folder, bytes: size, parameters: parameterCount(graph) };
}

/** Writes OUTPUT/checkpoint. The figures are added once the folder that stands there has been evaluated. */
export async function saveStudent(job: Job, student: Student, trained: Trained, figures?: Figures): Promise<Saved> {
  const { config, dataset, teacher, embedder } = job;
  const folder = job.path('checkpoint');
  const graph = await student.inferenceGraph(trained.weights);
  const parameters = parameterCount(graph);
  const model = encodeGraph(graph);
  const encoder = await encoderOf(job, student, trained.weights);
  const { dimensions } = encoder;
  await encoder.dispose();
  await job.stage('save', () =>
    writeCheckpoint(folder, {
      model,
      tokenizerFrom: student.folder.folder,
      config: student.config,
      pooling: student.pooling,
      normalize: student.normalize,
      dimensions,
      // Other tools cut texts here and nowhere else: beyond its positions a model fails.
      maxLength: Math.min(
        Math.max(config.student.queryTokens, config.student.documentTokens),
        positionsOf(student.folder.config),
      ),
      provenance: {
        version: VERSION,
        runtime: { node: process.version, onnxruntime: '1.30.0' },
        pipeline: config.pipeline,
        seed: config.seed,
        config: withAbsolutePaths(config),
        options: hashParts(canonicalJson({ ...config, output: '' })),
        data: { documents: dataset.documents.hash, queries: dataset.queries.hash },
        teacher: teacher?.key,
        embedder: embedder?.key,
        model: createHash('sha256').update(model).digest('hex'),
        training: { steps: trained.steps, bestStep: trained.bestStep, bestScore: trained.bestScore },
        ...(figures ? { systems: figures.systems } : {}),
      },
      card: card(config, dataset, figures),
    }),
  );
  const files = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((e) => e.isFile() && !ABOUT.includes(e.name))
    .map((e) => join('checkpoint', relative(folder, e.parentPath), e.name));
  await job.ledger.record('checkpoint', job.keys.checkpoint, files);
  return { folder, bytes: model.length, parameters };
}
