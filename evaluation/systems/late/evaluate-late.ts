/** @file A saved re-ranker of late interaction on a data set: the run of its first stage in the order of token vectors. */
import type { RunControl } from '../../../common/progress.ts';
import type { Dataset } from '../../../data/dataset.ts';
import type { SessionOptions } from '../../../engine/runtime/session.ts';
import { openTokenEncoder } from '../../../models/multi-vector/token-encoder.ts';
import { readProvenance } from '../../../serving/encoder/checkpoint.ts';
import { readLateFolder } from '../../../students/late/late-folder.ts';
import { LATE } from '../../../students/late/late-model.ts';
import { type TokenStates, tokenStates } from '../../../students/late/token-states.ts';
import type { Run } from '../../metrics/evaluate.ts';
import { rerankLate } from './rank.ts';

/**
 * @param folder a checkpoint with multi-vector.json
 * @param cache folder in which token states of the documents are kept: a second evaluation computes none
 * @param documents folder of the documents' dual-encoder, where the checkpoint's record is out of date
 */
export async function evaluateLate(
  folder: string,
  {
    dataset,
    run,
    cache,
    documents,
    session,
  }: { dataset: Dataset; run: Run; cache: string; documents?: string; session?: SessionOptions },
  watch: RunControl,
): Promise<Run> {
  const { model, file } = await readLateFolder(folder);
  const made = await readProvenance(folder, { documents });
  const { weights, settings } = model;
  const own = weights.has(LATE.queryProjection) ? made.inherits : undefined;
  const queries = await queryStates(
    folder,
    dataset,
    [...run.keys()],
    file.reads.query,
    settings.queryTokens,
    session,
    watch,
  );
  const encoder = await openTokenEncoder(own?.model ?? folder, { prompts: own?.prompts, session });
  const limits = { role: 'document' as const, maxLength: file.reads.document, keep: settings.documentTokens };
  const states = await tokenStates(encoder, dataset.documents, limits, cache, watch).finally(() => encoder.dispose());
  try {
    return await rerankLate(model, { queries, documents: states }, dataset, run, watch);
  } finally {
    states.close();
  }
}

/** States of some queries, in memory, by position in the table. */
async function queryStates(
  folder: string,
  { queries }: Dataset,
  ids: readonly string[],
  maxLength: number,
  keep: number,
  session: SessionOptions | undefined,
  watch: RunControl,
): Promise<TokenStates> {
  const encoder = await openTokenEncoder(folder, { session });
  const positions = ids.map((id) => queries.indexOf(id) as number);
  const found = new Map<number, { tokens: Float32Array; vector: Float32Array }>();
  const table = { length: positions.length, text: (i: number) => queries.text(positions[i]) };
  try {
    await encoder.encode(table, { ...watch, role: 'query', maxLength, keep, stage: 'token states of queries' }, (t) =>
      found.set(positions[t.at], t),
    );
  } finally {
    await encoder.dispose();
  }
  const at = (text: number) => found.get(text) as { tokens: Float32Array; vector: Float32Array };
  return {
    width: encoder.width,
    dimensions: encoder.dimensions,
    length: queries.length,
    halves() {
      throw new Error('states of queries are read as float32');
    },
    read: (text) => at(text).tokens,
    vector: (text) => at(text).vector,
    close() {},
  };
}
