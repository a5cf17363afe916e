/**
 * @file Run files in TREC's format: `query Q0 document rank score tag`, read and written so that every tool gets the same
 * ranking.
 */
import { InputError } from '../../common/errors.ts';
import { findFile, readLines } from '../../data/files/lines.ts';
import { type Run, rank } from './evaluate.ts';

/**
 * A run as text. Scores are printed in full, so that reading them as float32 or float64 gives the same order; ranks follow
 * trec_eval's order.
 * @throws InputError for an id with white space, which the format cannot hold
 */
export function formatRun(run: Run, tag = 'onnx-distill'): string {
  const lines: string[] = [];
  for (const [query, found] of run) {
    const { ids, scores } = rank(found, query);
    for (const [i, id] of ids.entries()) {
      const broken = [query, id].find((x) => /\s/.test(x) || x === '');
      if (broken !== undefined)
        throw new InputError({
          code: 'run.id',
          subject: `the id '${broken}' has white space`,
          expected: "ids without it, as TREC's format separates its columns by it",
          remedy: 'rename the id, or do not write the run file',
        });
      lines.push(`${query} Q0 ${id} ${i + 1} ${scores[i]} ${tag}`);
    }
  }
  return lines.length ? `${lines.join('\n')}\n` : '';
}

/**
 * Reads a run file, plain or gzipped. The rank column is not read, as in trec_eval.
 * @throws InputError that names file and line
 */
export async function readRun(path: string): Promise<Run> {
  const file = findFile(path);
  if (!file)
    throw new InputError({
      code: 'data.missing-file',
      subject: `there is no run file ${path}`,
      remedy: 'give a file of lines query, Q0, document, rank, score, tag',
    });
  const run = new Map<string, { ids: string[]; scores: number[] }>();
  for await (const { text, number } of readLines(file)) {
    if (!text.trim()) continue;
    const fields = text.trim().split(/\s+/);
    const score = Number(fields[4]);
    if (fields.length < 5 || Number.isNaN(score))
      throw new InputError({
        code: 'data.malformed-line',
        subject: `${file} line ${number}`,
        expected: 'query, Q0, document, rank, score and tag, separated by white space',
        received: JSON.stringify(text.slice(0, 80)),
        remedy: 'fix or remove the line',
      });
    let found = run.get(fields[0]);
    if (!found) {
      found = { ids: [], scores: [] };
      run.set(fields[0], found);
    }
    found.ids.push(fields[2]);
    found.scores.push(score);
  }
  return run;
}
