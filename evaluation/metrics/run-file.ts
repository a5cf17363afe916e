/**
 * @file Run files in TREC's format: `query Q0 document rank score tag`, read and written so that every tool gets the same
 * ranking.
 */
import { InputError } from '../../common/errors.ts';
import { findFile, readLines } from '../../data/files/lines.ts';
import { Column } from '../../data/table/columns.ts';
import { listOnDemand, TextIds } from '../../data/table/ids.ts';
import { type Run, rank } from './evaluate.ts';
import { lazyRun } from './run-on-demand.ts';

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
  const [queries, documents] = [new TextIds(), new TextIds()];
  // 16 bytes a hit, and an id once, however many lines have it.
  const [asked, found, given] = [new Column(Int32Array), new Column(Int32Array), new Column(Float64Array)];
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
    asked.push(queries.put(fields[0]));
    found.push(documents.put(fields[2]));
    given.push(score);
  }
  // By query, in the order of lines.
  const [rows, hits, scores] = [asked.all, found.all, given.all];
  const ends = new Int32Array(queries.length + 1);
  for (const q of rows) ends[q + 1]++;
  for (let q = 0; q < queries.length; q++) ends[q + 1] += ends[q];
  const next = ends.slice(0, -1);
  const order = new Int32Array(rows.length);
  for (let i = 0; i < rows.length; i++) order[next[rows[i]]++] = i;
  const positions = new Int32Array(queries.length).map((_, q) => q);
  const table = {
    ids: listOnDemand(queries.length, (q) => queries.id(q)),
    indexOf: (id: string) => queries.indexOf(id),
  };
  return lazyRun(table, positions, (q) => {
    const own = order.subarray(ends[q], ends[q + 1]);
    return { ids: Array.from(own, (i) => documents.id(hits[i])), scores: Float64Array.from(own, (i) => scores[i]) };
  });
}
