/** @file The frozen token states of a run: of its queries by the student's encoder, of its documents by the embedder. */
import { localModel } from '../../config/models.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import type { RunStates } from '../../evaluation/systems/late/rank.ts';
import { openTokenEncoder, type TokenEncoder } from '../../models/multi-vector/token-encoder.ts';
import type { SentenceOptions } from '../../models/sentence-folder.ts';
import { defineStage } from '../../run/stages/stage.ts';
import { type StatesOf, type TokenStates, tokenStates } from '../../students/late/token-states.ts';
import type { Student } from '../../students/student.ts';
import { defaultCache } from '../../teachers/cache/score-cache.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';

/** The encoders of both sides, and where they cut texts. */
interface Side {
  folder: string;
  options: SentenceOptions;
  of: StatesOf;
}

type Sides = Options<'student' | 'embedder'>;

/** How a run's texts become token states. */
export function sidesOf({ student, embedder }: Sides): { queries: Side; documents: Side; same: boolean } {
  const { model, multiVector, prompts, pooling, normalize, queryTokens, documentTokens } = student as Extract<
    Sides['student'],
    { kind: 'multiVector' }
  >;
  const own = { prompts, pooling, normalize };
  const folder = localModel(embedder) as string;
  const same = model === folder;
  const limits = embedder && 'documentTokens' in embedder ? embedder : undefined;
  const reads = same ? documentTokens : (limits?.documentTokens ?? documentTokens);
  return {
    same,
    queries: {
      folder: model,
      options: own,
      of: { role: 'query', maxLength: queryTokens, keep: multiVector.queryTokens },
    },
    documents: {
      folder,
      options: same ? own : { prompts: limits?.prompts },
      of: { role: 'document', maxLength: reads, keep: multiVector.tokens },
    },
  };
}

/** The texts of a table from a position on. */
const tailOf = (texts: Dataset['documents'], from: number) => ({
  hash: `${texts.hash} from ${from}`,
  length: texts.length - from,
  text: (i: number) => texts.text(from + i),
});

/** Two tables of states as one. */
function behind(first: TokenStates, second: TokenStates): TokenStates {
  const at =
    <T>(read: (of: TokenStates, text: number) => T) =>
    (text: number): T =>
      text < first.length ? read(first, text) : read(second, text - first.length);
  return {
    width: first.width,
    dimensions: first.dimensions,
    length: first.length + second.length,
    halves: at((of, text) => of.halves(text)),
    read: at((of, text) => of.read(text)),
    vector: at((of, text) => of.vector(text)),
    close() {
      first.close();
      second.close();
    },
  };
}

/** Token states, kept in the cache folder: what is there is not computed again, in this run or another one. */
export const frozenStates = defineStage({
  name: 'token states',
  options: [],
  unrecorded: ['student', 'embedder', 'cache', 'train.provider', 'train.threads'],
  async make(
    options,
    { data, trained }: { data: Dataset; trained: Dataset; student: Student; embedder: OpenedTeacher },
    { time, note, watch },
  ): Promise<RunStates> {
    const { queries, documents } = sidesOf(options);
    const cache = options.cache ?? defaultCache();
    const session = await computeOn(options.train);
    const side = async (
      { folder, options: own, of }: Side,
      texts: Parameters<typeof tokenStates>[1],
    ): Promise<TokenStates> => {
      const encoder: TokenEncoder = await openTokenEncoder(folder, { ...own, session });
      try {
        for (const text of encoder.notes) note(text);
        return await time(`token states of ${of.role === 'query' ? 'queries' : 'documents'}`, () =>
          tokenStates(encoder, texts, of, cache, watch),
        );
      } finally {
        await encoder.dispose();
      }
    };
    const own = await side(documents, data.documents);
    // Documents that training alone has stand behind those of the data.
    const more = trained.documents.length - data.documents.length;
    const added = more > 0 ? await side(documents, tailOf(trained.documents, data.documents.length)) : undefined;
    return { queries: await side(queries, data.queries), documents: added ? behind(own, added) : own };
  },
});
