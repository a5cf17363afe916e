/**
 * @file Evaluation and report of many queries without a model: a run of made hits is evaluated, compared with another and written as
 * report.json and report.html, with the memory of each stage.
 *
 *     npm run bench -- queries [queries] [hits] [--documents 100000] [--samples 100] [--file]
 *
 * `--samples` are the resamples of the bootstrap: each takes as long as it has queries and metrics, and no memory. `--file` writes
 * the run as a TREC file and reads it back too.
 */
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { openBeir } from '../../data/beir.ts';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import type { Run } from '../../evaluation/metrics/evaluate.ts';
import { fidelity } from '../../evaluation/metrics/fidelity.ts';
import { readRun } from '../../evaluation/metrics/run-file.ts';
import { runOnDemand } from '../../evaluation/metrics/run-on-demand.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { perQueryFigures, reportedValues, sampleNotes } from '../../evaluation/report/per-query.ts';
import { differences } from '../../evaluation/systems/compare-systems.ts';
import { EvaluationTable } from '../../evaluation/systems/evaluation-table.ts';
import { rerank } from '../../evaluation/systems/retrieve.ts';
import { Random } from '../../math/random.ts';
import { peakMegabytes } from '../peers/step.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    documents: { type: 'string', default: '100000' },
    samples: { type: 'string', default: '100' },
    file: { type: 'boolean', default: false },
  },
});
const [asked = 1_000_000, k = 10] = positionals.map(Number);
const corpus = Number(values.documents);
const METRICS = ['ndcg@10', 'mrr@10', 'recall@10', 'recall@100', 'map', 'success@10'];

const megabytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
async function stage<T>(
  name: string,
  work: () => Promise<T> | T,
  more: (result: T) => object = () => ({}),
): Promise<T> {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  const memory = {
    rss_mb: megabytes(rss),
    heap_mb: megabytes(heapUsed),
    buffers_mb: megabytes(arrayBuffers),
    peak_rss_mb: peakMegabytes(),
  };
  console.log(
    JSON.stringify({
      stage: name,
      cpu_seconds: Number(((user + system) / 1e6).toFixed(1)),
      ...memory,
      ...more(result),
    }),
  );
  return result;
}

function* linesOf(count: number, line: (i: number) => string): Generator<string> {
  for (let i = 0; i < count; i++) yield `${line(i)}\n`;
}
const write = (file: string, lines: Iterable<string>): Promise<void> =>
  pipeline(Readable.from(lines), createWriteStream(file));

/** Query q is answered by document q modulo the documents. */
async function make(folder: string): Promise<void> {
  mkdirSync(join(folder, 'qrels'), { recursive: true });
  await write(
    join(folder, 'corpus.jsonl'),
    linesOf(corpus, (i) => JSON.stringify({ _id: `document-${i}`, title: '', text: `a document about subject ${i}` })),
  );
  await write(
    join(folder, 'queries.jsonl'),
    linesOf(asked, (i) => JSON.stringify({ _id: `query-${i}`, text: `what is said of subject ${i}` })),
  );
  await write(
    join(folder, 'qrels', 'test.tsv'),
    linesOf(asked, (i) => `query-${i}\tdocument-${i % corpus}\t1`),
  );
}

/** Random hits, the relevant document among them for a share of the queries. */
function madeRun(dataset: Dataset, positions: readonly number[], share: number, seed: number): Run {
  const random = Random.of(seed, 'run');
  const [indices, scores] = [new Int32Array(positions.length * k), new Float32Array(positions.length * k)];
  for (const [i, q] of positions.entries()) {
    // Consecutive from a random place: each document once.
    const from = random.integer(corpus);
    for (let r = 0; r < k; r++) {
      indices[i * k + r] = (from + r) % corpus;
      scores[i * k + r] = 1 - r / k + random.uniform() / (2 * k);
    }
    const relevant = q % corpus;
    const listed = (relevant - from + corpus) % corpus < k;
    if (!listed && random.uniform() < share) indices[i * k + random.integer(k)] = relevant;
  }
  return runOnDemand({ k, indices, scores }, positions, dataset, k);
}

const folder = mkdtempSync(join(tmpdir(), 'onnx-distill-queries-'));
try {
  await stage('make', () => make(folder));
  const dataset = await stage('read', () => openBeir(folder));
  const qrels = dataset.qrels('test');
  const positions = judgedQueries(dataset, 'test');
  const runs = await stage('hits', () => ({
    student: madeRun(dataset, positions, 0.6, 0),
    baseline: madeRun(dataset, positions, 0.5, 1),
  }));
  const table = new EvaluationTable({
    dataset,
    split: 'test',
    metrics: METRICS,
    seed: 0,
    samples: Number(values.samples),
    watch: {},
  });
  const student = await stage('evaluate', () => table.add('student', 'student', runs.student));
  const baseline = await stage('evaluate another', () => table.add('baseline', 'BM25', runs.baseline));
  const score = async (pairs: readonly { documentId: string }[]): Promise<Float32Array> =>
    Float32Array.from({ length: pairs.length }, (_, i) => (pairs[i].documentId.length + i) % 7);
  const teacher = await stage('re-rank by a teacher without a model', async () =>
    table.add('teacher', 'teacher', await rerank(dataset, runs.student, { score }, {})),
  );
  await stage(`compare, ${values.samples} resamples`, () => table.compare(student, baseline, 'full retrieval'));
  const agreement = await stage('fidelity', () => fidelity(student.run, teacher.run));
  const figures = await stage('figures', (): Figures => {
    const { systems, comparisons, measured } = table;
    const perQuery = perQueryFigures(
      student.evaluation.queryIds,
      Object.fromEntries(measured.map((m) => [m.name, reportedValues(m.evaluation.perQuery)])),
    );
    const different = differences(student, baseline, dataset, qrels, METRICS[0]);
    const notes = sampleNotes(student.evaluation.queryIds.length);
    return {
      title: 'queries',
      facts: [],
      notes,
      systems,
      comparisons,
      fidelity: agreement,
      differences: different,
      perQuery,
    };
  });
  const [json, html] = [join(folder, 'report.json'), join(folder, 'report.html')];
  await stage(
    'report',
    async () => {
      await writeFile(json, JSON.stringify(figures));
      await writeFile(html, renderHtml(figures));
    },
    () => ({ json_mb: megabytes(statSync(json).size), html_mb: megabytes(statSync(html).size) }),
  );
  if (values.file) {
    const file = join(folder, 'student.run');
    function* hits(): Generator<string> {
      for (const [query, { ids, scores }] of runs.student)
        yield ids.map((id, r) => `${query} Q0 ${id} ${r + 1} ${scores[r]} made\n`).join('');
    }
    await stage('write a run file', () => write(file, hits()));
    const read = await stage('read it', () => readRun(file));
    await stage('evaluate it', () => table.add('other', 'read', read));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
