/** @file Embeds a data set's documents or queries with the embedder, into the cache that a run reads. */
import type { RunControl } from '../../common/progress.ts';
import type { ConfigInput } from '../../config/config.ts';
import { withMemory } from '../../config/memory.ts';
import { parseConfig } from '../../config/parse.ts';
import { textsAt } from '../../data/dataset.ts';
import { askedQueries } from '../../run/data.ts';
import { openSplit } from '../../run/open-data.ts';
import { openTeachers } from '../../run/open-teachers.ts';
import { distributeTexts } from '../queue/distribute.ts';
import { embed as embedding, type Teacher } from '../teacher.ts';
import { queuedModel, throughQueue } from './through-queue.ts';

/** Which texts are embedded, and by whom. */
export interface EmbedOptions {
  /** The queries of this split, of the training split those that a run trains on; the documents by default. */
  queries?: string;
  /** Address of a queue whose workers embed, e.g. `redis://host:6379`; this process embeds by default. */
  queue?: string;
  /** Texts of a range in the queue. */
  range?: number;
}

/** How many texts there are and how many vectors came. */
export interface EmbedReport {
  texts: number;
  kind: 'documents' | 'queries';
  dimensions: number;
  /** Vectors that came through the queue, where there is one; the others were in the cache. */
  fromQueue?: number;
}

/**
 * Embeds what the cache lacks.
 * @throws InputError for a mistake in the options
 */
export async function embedTexts(
  options: ConfigInput,
  { queries, queue, range }: EmbedOptions = {},
  watch: RunControl = {},
): Promise<EmbedReport> {
  const config = parseConfig(options);
  const spec = queue === undefined ? undefined : queuedModel(config.embedder, 'embedder');
  const dataset = await openSplit(config, queries, watch);
  const kind = queries === undefined ? 'document' : 'query';
  const stage = `embed ${kind === 'query' ? 'queries' : 'documents'}`;
  const note = (text: string): void => watch.onProgress?.({ stage, done: 0, unit: 'texts', note: text });
  const limited = await withMemory(config, dataset, watch, note);
  // The teacher is not asked.
  const { embedder, cache, close } = await openTeachers({ ...config, teacher: undefined }, dataset);
  try {
    const embed = embedding(embedder?.teacher);
    const texts = queries === undefined ? dataset.documents : textsAt(dataset, askedQueries(config, dataset, queries));
    const came =
      queue !== undefined && spec
        ? await throughQueue(queue, spec, { model: embedder?.uncached as Teacher, cache, onNote: note }, (asked) =>
            distributeTexts(texts, kind, { ...asked, onNonFinite: config.train.onNonFinite, range }, limited),
          )
        : undefined;
    // With a queue, all vectors are in the cache now; one shows the width.
    const one = { length: Math.min(1, texts.length), text: (i: number) => texts.text(i) };
    const { dimensions } = await embed(came ? one : texts, kind, limited);
    return {
      texts: texts.length,
      kind: kind === 'query' ? 'queries' : 'documents',
      dimensions,
      ...(came && { fromQueue: came.texts }),
    };
  } finally {
    await close();
  }
}
