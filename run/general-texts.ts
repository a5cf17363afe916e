/** @file The texts on which a student stays near the encoder as it was (`student.keep`): opened before anything is made. */
import { InputError } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import { localModel } from '../config/models.ts';
import { trainedEncoder } from '../config/student.ts';
import type { Dataset, TextTable } from '../data/dataset.ts';
import { openDocuments } from '../data/open.ts';
import { Encoder } from '../models/encoder.ts';
import { given, type Result } from './stages/stage.ts';

/**
 * Tables of documents that spans are taken from, each with the same share: those that `student.keep.texts` names, else the run's.
 * @throws InputError where texts cannot be read, or the encoder has another width than the student
 */
export async function openGeneral(
  config: Config,
  own: Dataset,
  note: (text: string) => void,
): Promise<Result<readonly TextTable[]> | undefined> {
  const { keep } = config.student;
  if (!keep) return undefined;
  if (keep.model !== undefined) await refuseOtherWidth(config, keep.model);
  if (keep.texts === undefined) return given([own.documents], { 'the documents': own.documents.hash });
  const tables: TextTable[] = [];
  const parts: Record<string, string> = {};
  for (const [i, path] of [keep.texts].flat().entries()) {
    const { documents, notes = [] } = await openDocuments(path);
    for (const text of notes) note(`student.keep: ${text}`);
    tables.push(documents);
    parts[`student.keep.texts.${i}`] = documents.hash;
  }
  return given(tables, parts);
}

/** As far as both are folders; a student that is yet to be made is compared when it is there. */
async function refuseOtherWidth({ student, embedder }: Config, model: string): Promise<void> {
  const query = student.towers === 'query';
  const other = query ? localModel(embedder) : trainedEncoder(student);
  if (other === undefined) return;
  const [kept, own] = [await widthOf(model), await widthOf(other)];
  if (kept !== own)
    throw new InputError({
      code: 'keep.width',
      subject: `'student.keep.model': ${model} gives ${kept} columns and ${query ? 'the documents of the embedder' : "the student's embeddings"} have ${own}`,
      remedy: 'name an encoder of the same width, or leave it out',
    });
}

async function widthOf(folder: string): Promise<number> {
  const encoder = await Encoder.load(folder);
  await encoder.dispose();
  return encoder.dimensions;
}
