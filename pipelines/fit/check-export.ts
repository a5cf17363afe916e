/** @file Refuses export options that the student cannot meet, before any work. */

import { InputError } from '../../common/errors.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { Student } from '../../students/student.ts';
import type { Embeddings } from '../../teachers/teacher.ts';

/**
 * Refuses before training what could only be refused after it.
 * @throws InputError where the options of the export do not fit the student or the data
 */
export function checkExport(
  config: Options<'export' | 'data.splits' | 'student.towers'>,
  dataset: Dataset,
  student: Student,
  documents: Embeddings | undefined,
): void {
  if (!config.export) return;
  const { dimensions, strict } = config.export;
  const width = config.student.towers === 'query' ? documents?.dimensions : Number(student.folder.config.hidden_size);
  if (dimensions !== undefined && width !== undefined && dimensions > width)
    throw new InputError({
      code: 'export.dimensions',
      subject: "'export.dimensions'",
      expected: `at most ${width}, as the student has`,
      received: String(dimensions),
      remedy: 'choose fewer, or leave it out',
    });
  const { dev } = config.data.splits;
  if (strict && !(dev !== null && dataset.splits.includes(dev)))
    throw new InputError({
      code: 'export.unmeasured',
      subject: `'export.strict' needs figures and the data has no split '${dev}'`,
      remedy: "name a split under 'data.splits.dev', or remove strict",
    });
}
