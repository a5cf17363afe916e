/** @file What a program imports: `import { distill } from 'onnx-distill'`. */
export { FaultError, InputError } from './common/errors.ts';
export type { Progress } from './common/progress.ts';
