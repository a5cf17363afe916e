/** @file A teacher that is a model: opened by its kind, and its key from its files alone. */
import type { SessionOptions } from '../engine/runtime/session.ts';
import type { PromptOptions as EncoderPrompts } from '../models/modules/prompts.ts';
import { crossEncoder, crossEncoderKey } from './cross-encoder.ts';
import { dualEncoder, dualEncoderKey } from './dual-encoder.ts';
import { type GenerativeOptions, generative, generativeKey } from './generative.ts';
import type { PromptOptions } from './reading/prompts.ts';
import type { Teacher, TeacherDType } from './teacher.ts';

/** A teacher's model, how it cuts texts and how its scores are read. */
export interface ModelTeacher extends Cut, PromptOptions {
  kind: 'cross-encoder' | 'dual-encoder' | 'generative';
  model: string;
  maxLength?: number;
  label?: string | number;
  output?: string;
  dtype?: TeacherDType;
  prompts?: EncoderPrompts;
}

/** @throws InputError where the model cannot be opened */
export function openModel(t: ModelTeacher, session: SessionOptions): Promise<Teacher> {
  if (t.kind === 'generative') return generative(t.model, { ...generativeOptions(t), session });
  if (t.kind === 'cross-encoder') return crossEncoder(t.model, { ...crossEncoderLimits(t), session });
  return dualEncoder(t.model, { ...dualEncoderLimits(t), session });
}

/** The key of the teacher that `openModel` opens, from its files alone. */
export function modelKey(t: ModelTeacher): Promise<string> {
  if (t.kind === 'generative') return generativeKey(t.model, generativeOptions(t));
  return t.kind === 'cross-encoder'
    ? crossEncoderKey(t.model, crossEncoderLimits(t))
    : dualEncoderKey(t.model, dualEncoderLimits(t));
}

/** A teacher of a run; in a dry run its key alone is known. */
export interface OpenedTeacher {
  key: string;
  teacher?: Teacher;
  /** Without the cache, to be timed. */
  uncached?: Teacher;
  /** Whether it reads vectors from files, which no cache keeps. */
  given?: boolean;
}

type Cut = { queryTokens?: number; documentTokens?: number };

/** How a config has pairs cut and their scores read. */
export const crossEncoderLimits = (
  t: Cut & Pick<ModelTeacher, 'maxLength' | 'label' | 'output' | 'prompts' | 'dtype'>,
) => ({
  dtype: t.dtype,
  prompts: t.prompts,
  label: t.label,
  output: t.output,
  maxQuery: t.queryTokens,
  maxDocument: t.documentTokens,
  maxLength: t.maxLength,
});
function generativeOptions(t: ModelTeacher): GenerativeOptions {
  const { template, yes, no, instruction, maxLength, output } = t;
  return { template, yes, no, instruction, maxLength, output };
}
export const dualEncoderLimits = ({
  queryTokens,
  documentTokens,
  prompts,
  dtype,
}: Cut & Pick<ModelTeacher, 'prompts' | 'dtype'>) => ({
  dtype,
  queryTokens,
  documentTokens,
  prompts,
});
