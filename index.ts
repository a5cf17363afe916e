/** @file The main entry point: `import { distill } from 'onnx-distill'`. Importing it has no side effects. */

export { evaluate } from './checkpoints/evaluate.ts';
export type { EvaluateOptions, EvaluateReport } from './checkpoints/evaluation-report.ts';
export { type ExportOptions, type ExportReport, exportCheckpoint } from './checkpoints/export-checkpoint.ts';
export { type RotateReport, rotate } from './checkpoints/rotate.ts';
export type { RotateOptions } from './checkpoints/rotate-options.ts';
export { type ErrorDetails, FaultError, InputError } from './common/errors.ts';
export type { OnProgress, Progress, RunControl } from './common/progress.ts';
export { type Config, type ConfigInput, configSchema } from './config/config.ts';
export { init } from './config/init/init.ts';
export type { LossConfig } from './config/losses.ts';
export { parseConfig } from './config/parse.ts';
export { type TeacherConfig, type TeacherConfigInput, teacherSchema } from './config/teacher.ts';
export { readConfig } from './config/yaml/read-yaml.ts';
export { openBeir } from './data/beir.ts';
export type { Dataset, Qrels, Texts, TextTable } from './data/dataset.ts';
export { openDataset } from './data/open.ts';
export { type PairLimits, TextTokenizer, type Tokens } from './data/tokenizer.ts';
export { type DemoOptions, type DemoReport, demo } from './demo-world/demo.ts';
export { makeWorld, type World, type WorldOptions } from './demo-world/world.ts';
export { compareRuns } from './evaluation/systems/compare-runs.ts';
export * from './losses/index.ts';
export { type EncodeOptions, Encoder, type EncoderOptions } from './models/encoder.ts';
export { type FreshOptions, freshModel } from './models/new-model.ts';
export { checkModel, type ModelCheck } from './models/trainability.ts';
export { distill, type RunReport, type System } from './pipelines/distill.ts';
export { bm25 } from './retrieval/bm25.ts';
export {
  type CascadeEvaluation,
  type EvaluateCascadeOptions,
  evaluateCascadeFile,
} from './search/evaluate-cascade.ts';
export { type ExitsOptions, type ExitsReport, makeExits } from './search/exits/exits.ts';
export { type CascadeOptions, type CascadeReport, cascade } from './search/fit-cascade.ts';
export { type IndexOptions, type IndexReport, indexDocuments } from './search/index-documents.ts';
export { type SemanticCacheOptions, type SemanticCacheReport, semanticCache } from './search/semantic-cache.ts';
export { type RunningServer, type ServeOptions, startServer } from './search/serve.ts';
export type { SplitFigures } from './search/split/measure.ts';
export { makeSplit, type SplitReport, type SplitTrainingOptions } from './search/split/split.ts';
export { candidateSelections, querySelections } from './selection/index.ts';
export { ScoreCache } from './teachers/cache/score-cache.ts';
export { type CrossEncoderOptions, crossEncoder } from './teachers/cross-encoder.ts';
export { type DualEncoderOptions, dualEncoder } from './teachers/dual-encoder.ts';
export { type GenerativeOptions, generative } from './teachers/generative.ts';
export { type EmbedOptions, type EmbedReport, embedTexts } from './teachers/jobs/embed.ts';
export { type ScoreOptions, type ScoreReport, score } from './teachers/jobs/score.ts';
export { type TeacherReport, trainTeacher } from './teachers/jobs/train-teacher.ts';
export { runWorker, type WorkerOptions, type WorkerReport } from './teachers/queue/worker.ts';
export { scoreFile } from './teachers/score-file.ts';
export type { Embeddings, Pair, Teacher, TeacherFacts } from './teachers/teacher.ts';
export { transformersTeacher } from './teachers/transformers-js.ts';
export { checkStudent, type StudentCheck } from './training/check-student.ts';
export { weightings } from './weighting/index.ts';
