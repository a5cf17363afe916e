/** @file The student before training: an encoder that is loaded, one that is made first, or a table of tokens. */

import { unreachable } from '../../common/errors.ts';
import { localModel } from '../../config/models.ts';
import { startFolder } from '../../config/student.ts';
import { type Dataset, learnedTexts } from '../../data/dataset.ts';
import type { TextTokenizer } from '../../data/tokenizer.ts';
import { constantsOf } from '../../engine/passes/frozen-parameters.ts';
import { freshModel } from '../../models/new-model.ts';
import { loadStudent, type Student } from '../../students/index.ts';
import { staticStudent } from '../../students/static-encoder.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { RunContext } from '../run/context.ts';
import { encoderFolder, trainingQueries } from '../run/data.ts';
import { defineStage, lazily, type Result } from '../run/stage.ts';
import { tokenVectors } from './embeddings.ts';

/** The encoder to train, by the content of its folder; a fresh one is made first, of the seed and the data. */
const encoder = defineStage({
  name: 'student',
  options: ['student'],
  unrecorded: ['student.model', 'data', 'seed'],
  make: (
    { student, data, seed },
    inputs: { folder?: string; data?: Dataset; seed?: unknown },
    { time, note },
  ): Promise<Student> =>
    time('open student', async () => {
      const model = startFolder(student) as string;
      // A vocabulary of what is searched and what is learned from: a test query must not have shaped it.
      if (student.kind === 'fresh' && inputs.data) {
        const texts = learnedTexts(inputs.data, trainingQueries({ data }, inputs.data));
        await freshModel(model, texts, { ...student.fresh, seed });
      }
      const opened = await loadStudent(model, student);
      for (const text of opened.notes) note(text);
      return opened;
    }),
});

/** A table whose rows start as what the embedder makes of each token alone. */
const table = defineStage({
  name: 'static student',
  options: ['student', 'seed'],
  unrecorded: ['student.model', 'embedder'],
  async make({ student, seed, embedder }, inputs: { embedder: OpenedTeacher }, tools): Promise<Student> {
    const folder = localModel(embedder) as string;
    return staticStudent(folder, await tokenVectors(inputs.embedder.teacher, folder, tools), {
      ...(student.kind === 'static' && student.static),
      seed,
      prompts: student.prompts,
    });
  },
});

/** The student of a run, opened before any other work: what is wrong with it is told before the teacher is asked. */
export async function openStudent(run: RunContext): Promise<Result<Student>> {
  const student = await studentOf(run);
  const { student: wanted, train } = run.config;
  // A dry run refuses what a run would: a folder without a tokenizer, layers that do not exist.
  const opened = !run.dry
    ? await student.value()
    : wanted.kind === 'model'
      ? await loadStudent(startFolder(wanted) as string, wanted)
      : undefined;
  if (opened && train.freeze) constantsOf(opened.graph, train.freeze);
  return student;
}

async function studentOf(run: RunContext): Promise<Result<Student>> {
  const { student } = run.config;
  switch (student.kind) {
    case 'model':
      return run.stage(encoder, { folder: await encoderFolder(student.model) });
    case 'fresh':
      return run.stage(encoder, { data: run.data.training, seed: run.option('seed') });
    case 'static':
      return run.stage(table, { embedder: run.embedder as Result<OpenedTeacher> });
    default:
      return unreachable(student);
  }
}

/** The student's tokenizer, which does not change with its layers and lengths. */
export function tokenizerOf({ config }: RunContext, student: Result<Student>): Result<TextTokenizer> {
  const made = config.student.kind !== 'model';
  const { fingerprint } = student;
  const own = { "the student's tokenizer": fingerprint["the student's tokenizer"] };
  return lazily(made ? fingerprint : own, student.known, async () => (await student.value()).tokenizer);
}
