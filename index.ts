/** @file What a program imports: `import { distill } from 'onnx-distill'`. Nothing is read, printed or ended at import. */
export { type Complaint, FaultError, InputError } from './common/errors.ts';
export type { OnProgress, Progress, Watch } from './common/progress.ts';
export { openBeir } from './data/beir.ts';
export type { Dataset, Qrels, TextTable } from './data/dataset.ts';
export { openDataset } from './data/open.ts';
export { type PairLimits, TextTokenizer, type Tokens } from './data/tokenizer.ts';
export { bm25 } from './evaluation/bm25.ts';
export * from './losses/index.ts';
export { compareRuns } from './pipelines/compare.ts';
export {
  type Config,
  type ConfigInput,
  configSchema,
  parseConfig,
} from './pipelines/config.ts';
export { readConfig } from './pipelines/config-file.ts';
export type { LossConfig } from './pipelines/config-losses.ts';
export { type DemoOptions, type DemoReport, demo } from './pipelines/demo/demo.ts';
export { makeWorld, type World, type WorldOptions } from './pipelines/demo/world.ts';
export { distill, type RunReport, type System } from './pipelines/distill.ts';
export { type EvaluateOptions, type EvaluateReport, evaluate } from './pipelines/evaluate.ts';
export { type ExportOptions, type ExportReport, exportCheckpoint } from './pipelines/export.ts';
export { init } from './pipelines/init.ts';
export { type RotateOptions, type RotateReport, rotate } from './pipelines/rotate.ts';
export { type ScoreOptions, type ScoreReport, score } from './pipelines/score.ts';
export { type TeacherConfig, type TeacherConfigInput, teacherSchema } from './pipelines/teacher-config.ts';
export { type TeacherReport, trainTeacher } from './pipelines/train-teacher.ts';
export { runWorker, type WorkerOptions, type WorkerReport } from './pipelines/worker.ts';
export { candidateSelections, querySelections } from './selection/index.ts';
export { checkModel, type ModelCheck } from './students/check.ts';
export { type EncodeOptions, Encoder, type EncoderOptions, type Texts } from './students/encoder.ts';
export { type FreshOptions, freshModel } from './students/fresh.ts';
export { ScoreCache } from './teachers/cache.ts';
export { type CrossEncoderOptions, crossEncoder } from './teachers/cross-encoder.ts';
export { type DualEncoderOptions, dualEncoder } from './teachers/dual-encoder.ts';
export { scoreFile } from './teachers/score-file.ts';
export type { Embeddings, Pair, Teacher } from './teachers/teacher.ts';
export { transformersTeacher } from './teachers/transformers-js.ts';
export { weightings } from './weighting/index.ts';
