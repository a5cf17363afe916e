/** @file A re-ranker of late interaction over texts, of the shape that cross-encoders have: `openReranker` opens it. */
import type { RunControl } from '../../common/progress.ts';
import { type LateEncoderOptions, openLateEncoder, product } from './late-encoder.ts';

/** @throws InputError where the folder holds no re-ranker of late interaction */
export async function openLateReranker(folder: string, options: LateEncoderOptions = {}) {
  const encoder = await openLateEncoder(folder, options);
  return {
    name: folder,
    key: encoder.key,
    notes: encoder.notes,
    /** Scores of the documents for a query, in their order; documents are encoded anew, which an index saves. */
    async score(query: string, documents: readonly string[], watch: RunControl = {}): Promise<Float32Array> {
      const [asked] = await encoder.queries([query], { signal: watch.signal });
      const scores = new Float32Array(documents.length);
      const texts = { length: documents.length, text: (i: number) => documents[i] };
      await encoder.documents(
        texts,
        (at, found) => {
          scores[at] = encoder.score(asked.tokens, found.tokens, product(asked.vector, found.vector));
        },
        watch,
      );
      return scores;
    },
    dispose: () => encoder.dispose(),
  };
}
