/** @file The lexical channel of a hybrid student, as a file of its checkpoint. */
import { join } from 'node:path';
import type { Dataset } from '../../data/dataset.ts';
import { bm25Index } from '../../evaluation/bm25-run.ts';
import type { HybridFit } from '../../evaluation/fit-hybrid.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import { lexicalChannel, writeLexicalChannel } from '../../retrieval/lexical-channel.ts';
import { defineStage } from '../../run/stages/stage.ts';

/** CHECKPOINT/lexical.json with the weight that the evaluation fitted; written again where the checkpoint is made again. */
export const lexicalStage = defineStage({
  name: 'lexical channel',
  options: ['hybrid'],
  unchanged: 'whole, and of this evaluation',
  async make(
    { hybrid },
    { saved, data, measured: { fit } }: { saved: Saved; data: Dataset; measured: { fit?: HybridFit } },
    { time, watch },
  ): Promise<boolean> {
    if (!hybrid || !fit) return false;
    const { k1, b } = hybrid;
    const index = await time('lexical channel', () => bm25Index(data.documents, { k1, b, ...watch }));
    await writeLexicalChannel(saved.folder, lexicalChannel(index, fit));
    return true;
  },
  keep: {
    alone: true,
    save: async (written) => (written ? [join('checkpoint', 'lexical.json')] : []),
    load: async () => true,
  },
});
