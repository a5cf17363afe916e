/** @file Evaluates a saved sparse student: what it finds by an inverted index, compared with BM25 and a dense student, and its costs. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import { computeFile, onCpuNote } from '../engine/runtime/provider.ts';
import { bm25Run } from '../evaluation/bm25-run.ts';
import { defaultMetrics } from '../evaluation/metrics/metrics.ts';
import { sampleNotes } from '../evaluation/report/per-query.ts';
import { EvaluationTable } from '../evaluation/systems/evaluation-table.ts';
import { encoderSearcher } from '../evaluation/systems/retrieve.ts';
import { sparseHybrid } from '../evaluation/systems/sparse/sparse-hybrid.ts';
import { describeCosts, searchSparse } from '../evaluation/systems/sparse/sparse-run.ts';
import { Encoder } from '../models/encoder.ts';
import { openSparseFolder, SPARSE_FILES } from '../models/sparse/sparse-folder.ts';
import { ImpactIndex } from '../retrieval/sparse/impact-index.ts';
import { deviceOf, inheritedDocuments, readProvenance } from '../serving/encoder/checkpoint.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import {
  type EvaluateOptions,
  type EvaluateReport,
  reachOf,
  reportOf,
  withoutQueries,
  writeEvaluation,
} from './evaluation-report.ts';

const DEV = 'dev';

/** @throws InputError where an option is of dense students alone, or the folder, the data or another file cannot be read */
export async function evaluateSparse(options: EvaluateOptions, watch: RunControl = {}): Promise<EvaluateReport> {
  for (const name of ['teacher', 'documents', 'index', 'baseline', 'memory'] as const)
    if (options[name] !== undefined)
      throw new InputError({
        code: 'evaluate.sparse',
        subject: `--${name} is not available for the sparse student ${options.student}`,
        remedy: "leave it out; 'distill compare' compares runs that --run wrote",
      });
  if (options.prompts?.query !== undefined || options.prompts?.document !== undefined)
    throw new InputError({
      code: 'evaluate.sparse',
      subject: `prompts are those of the sparse student ${options.student}`,
      remedy: 'leave out --query-prompt and --document-prompt',
    });
  const { metrics = defaultMetrics, seed = 0 } = options;
  const reach = reachOf(options);
  const { data } = await readProvenance(options.student);
  const split = splitFor(options.split, 'test', data.splits, watch);
  const reading = options.columns ? { ...data, columns: options.columns } : data;
  const asked = options.with === undefined ? [split] : [split, DEV];
  const dataset = await openAsRun(options.data, reading, asked, watch);
  const table = new EvaluationTable({ dataset, split, metrics, seed, samples: options.samples, watch });
  const { dtype = 'fp32' } = options;
  if (dtype !== 'fp32' && dtype !== 'int8')
    throw new InputError({
      code: 'evaluate.sparse',
      subject: `--dtype of the sparse student ${options.student}`,
      expected: 'fp32 or int8',
      received: dtype,
    });
  const file = SPARSE_FILES[dtype];
  const { provider } = options;
  const { encoder, ...limits } = await openSparseFolder(options.student, {
    file,
    session: await computeFile(file, provider),
  });
  const { queryTokens = limits.queryTokens, documentTokens = limits.documentTokens } = options;
  const onCpu = onCpuNote(file, provider);
  if (onCpu) table.note(onCpu);
  const searched = { dataset, split, depth: reach };
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  try {
    const rows = await encoder.documents(dataset.documents, { ...watch, maxLength: documentTokens });
    const [index, bytes] = (['float32', 'uint8'] as const).map((kind) =>
      ImpactIndex.of(rows, encoder.vocabulary, kind),
    );
    const { run, costs } = searchSparse(encoder, index, searched, { queryTokens });
    const student = table.add('student', 'student', run);
    table.note(describeCosts(costs));
    for (const note of sampleNotes(student.evaluation.queryIds.length)) table.note(note);
    const coded = searchSparse(encoder, bytes, searched, { queryTokens });
    const small = table.add('student', 'student, impacts of one byte', coded.run);
    table.note(`with impacts of one byte: ${describeCosts(coded.costs)}`);
    table.compare(small, student, 'full retrieval');
    const words = withoutQueries(await bm25Run(dataset, split, reach, watch), dataset);
    const bm25 = table.add('baseline', 'BM25', words);
    table.compare(student, bm25, 'full retrieval');
    if (options.with !== undefined) {
      if (split === DEV || !dataset.splits.includes(DEV))
        throw new InputError({
          code: 'evaluate.with',
          subject: `the weight of the dense student ${options.with} is chosen on the split '${DEV}'`,
          received: `${split} of ${dataset.splits.join(', ')}`,
          remedy: `evaluate another split of a data set that has '${DEV}'`,
        });
      const made = await readProvenance(options.with, {});
      const own = await Encoder.load(options.with, {
        comparable: true,
        session: await deviceOf({ model: options.with }, provider),
      });
      try {
        const searcher = encoderSearcher(own, made, inheritedDocuments(made, cache, provider));
        const found = await sparseHybrid(searcher, { encoder, index, queryTokens }, searched, DEV, watch);
        const dense = table.add('baseline', 'dense student', found.dense);
        const both = table.add('student', 'both', found.both);
        table.compare(both, dense, 'full retrieval');
        const { lambda, scale, queries } = found.fit;
        table.note(
          `both: dense + ${lambda} x sparse / ${scale.toFixed(3)}, the weight chosen on ${queries} dev queries`,
        );
      } finally {
        await own.dispose();
      }
    }
    const report = reportOf(table, student, [
      ['student', `sparse, ${dtype}, ${encoder.vocabulary} tokens, inverted index`],
    ]);
    await writeEvaluation(options, report, student, { sparse: costs });
    return report;
  } finally {
    await encoder.dispose();
    await cache.close();
  }
}
