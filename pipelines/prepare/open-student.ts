/** @file The student before training, opened by its kind. */
import { localModel } from '../../config/models.ts';
import { kindOf, startFolder } from '../../config/student.ts';
import { type Dataset, learnedTexts } from '../../data/dataset.ts';
import type { TextTokenizer } from '../../data/tokenizer.ts';
import { checkExits } from '../../engine/passes/exits.ts';
import { constantsOf } from '../../engine/passes/frozen-parameters.ts';
import { layerCount } from '../../engine/passes/segments.ts';
import type { RunContext } from '../../run/context.ts';
import { encoderFolder, trainingQueries } from '../../run/data.ts';
import { defineStage, lazily, type Result } from '../../run/stages/stage.ts';
import type { Sources } from '../../students/kinds/index.ts';
import type { Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { tokenVectors } from './embeddings.ts';

interface Made {
  folder?: string;
  texts?: Dataset;
  documents?: Dataset;
  seed?: unknown;
  embedder?: OpenedTeacher;
}

/** The student of the run: what its kind reads counts by content. */
const opened = defineStage({
  name: 'student',
  options: ['student'],
  unrecorded: ['student.model', 'student.keep', 'data', 'seed', 'embedder'],
  make: ({ student, data, seed, embedder }, made: Made, tools): Promise<Student> =>
    tools.time('open student', async () => {
      const from: Sources = {
        texts: () => learnedTexts(made.texts as Dataset, trainingQueries({ data }, made.texts as Dataset)),
        documents: () => (made.documents as Dataset).documents,
        seed,
        async embedder() {
          const folder = localModel(embedder) as string;
          return { folder, tokens: await tokenVectors(made.embedder?.teacher, folder, tools) };
        },
      };
      const own = await kindOf(student).open(student, from);
      for (const text of own.notes) tools.note(text);
      return own;
    }),
});

/** The student of a run, opened before any other work: what is wrong with it is reported before the teacher is asked. */
export async function openStudent(run: RunContext): Promise<Result<Student>> {
  const { student } = run.config;
  const reads = new Set(kindOf(student).reads);
  const result = await run.stage(opened, {
    folder: reads.has('folder') ? await encoderFolder(startFolder(student) as string) : undefined,
    texts: reads.has('texts') ? run.data.training : undefined,
    documents: reads.has('documents') ? run.data.documents : undefined,
    seed: reads.has('seed') ? run.option('seed') : undefined,
    embedder: reads.has('embedder') ? run.embedder : undefined,
  });
  // A dry run refuses what a run would, as far as nothing is made: a folder without a tokenizer, layers that do not exist.
  const whole = run.dry && reads.size === 1 && reads.has('folder');
  const own = whole ? await kindOf(student).open(student, nothing) : run.dry ? undefined : await result.value();
  const { freeze, exits } = run.config.train;
  if (own && freeze) constantsOf(own.graph, freeze);
  if (own && exits) checkExits(exits, layerCount(own.graph));
  return result;
}

const unread = (): never => {
  throw new Error('this kind of student does not read it');
};
const nothing: Sources = { texts: unread, documents: unread, seed: 0, embedder: unread };

/** The student's tokenizer, which does not change with its layers and lengths. */
export function tokenizerOf({ config }: RunContext, student: Result<Student>): Result<TextTokenizer> {
  const { fingerprint } = student;
  const own = { "the student's tokenizer": fingerprint["the student's tokenizer"] };
  const read = kindOf(config.student).reads.includes('folder');
  return lazily(read ? own : fingerprint, student.known, async () => (await student.value()).tokenizer);
}
