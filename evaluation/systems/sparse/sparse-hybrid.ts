/** @file A dense student and a sparse one together: the weight of the sparse one fitted on dev, the run of the test split. */
import type { RunControl } from '../../../common/progress.ts';
import { judgedQueries, textsAt } from '../../../data/dataset.ts';
import type { SparseEncoder } from '../../../models/sparse/sparse-encoder.ts';
import { bothChannels, type ChannelScores } from '../../../retrieval/hybrid.ts';
import type { ImpactIndex } from '../../../retrieval/sparse/impact-index.ts';
import { fitHybrid, type HybridFit } from '../../fit-hybrid.ts';
import type { Run } from '../../metrics/evaluate.ts';
import { hybridRun } from '../hybrid.ts';
import { CHOICE_METRIC, retrieve, type Searcher, type Split } from '../retrieve.ts';

/** Documents of each channel while the weight is fitted: deeper ones do not affect nDCG@10. */
const FIT_DEPTH = 200;

/**
 * score = dense + lambda x sparse / scale, lambda chosen on a split that is not the measured one.
 * @param dense the dense student
 */
export async function sparseHybrid(
  dense: Searcher,
  { encoder, index, queryTokens }: { encoder: SparseEncoder; index: ImpactIndex; queryTokens: number },
  { dataset, split, depth }: Split,
  dev: string,
  watch: RunControl,
): Promise<{ fit: HybridFit; dense: Run; both: Run }> {
  const terms = (text: string) => encoder.query(text, queryTokens);
  const channel = {
    search: (text: string, k: number) => index.search(terms(text), k),
    scores: (text: string, wanted: ArrayLike<number> & Iterable<number>) => index.scoresOf(terms(text), wanted),
  };
  const { run, vectors } = await retrieve(dense, { dataset, split, depth }, watch);
  const judged = judgedQueries(dataset, dev);
  const embedded = await dense.queries(textsAt(dataset, judged), watch);
  const lists: ChannelScores[] = [];
  await bothChannels(
    { vectors: embedded.data, text: (i) => dataset.queries.text(judged[i]) },
    vectors.documents,
    vectors.dimensions,
    channel,
    (_, scores) => lists.push(scores),
    { ...watch, depth: FIT_DEPTH },
  );
  const ids = judged.map((q) => dataset.queries.ids[q]);
  const fit = fitHybrid(lists, ids, (d) => dataset.documents.ids[d], dataset.qrels(dev), CHOICE_METRIC);
  return { fit, dense: run, both: await hybridRun({ dataset, vectors }, channel, fit, depth, watch) };
}
