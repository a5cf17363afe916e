/** @file General spans and the embeddings that the encoder as it was has of them (`student.keep`). */
import { FaultError, InputError } from '../../common/errors.ts';
import { localModel } from '../../config/models.ts';
import type { Options } from '../../config/options.ts';
import { startFolder } from '../../config/student.ts';
import type { TextTable } from '../../data/dataset.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { generateTexts } from '../../generation/spans.ts';
import { allFinite } from '../../math/finite.ts';
import { Random } from '../../math/random.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import type { RunContext } from '../../run/context.ts';
import { defineStage, derive, given, type Result } from '../../run/stages/stage.ts';
import { specialTokens } from '../../students/static-encoder.ts';
import type { Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { type Embeddings, embed, type Teacher } from '../../teachers/teacher.ts';
import type { EmbeddedTexts } from '../../training/batches/dual-encoder-batch.ts';
import { tokenizerOf } from './open-student.ts';

/** Spans in all: a step draws from them, and an epoch of them is a few hundred steps. */
const KEPT_SPANS = 20_000;

interface Spans {
  /** Of random tokens, their ids. */
  texts: readonly string[];
  embeddings: Embeddings;
  /** Hash of the tokenizer that ids belong to. */
  tokenizer: string;
}
interface Given {
  general: readonly TextTable[];
  tokenizer: TextTokenizer;
  /** Folder of the tokenizer, where it is one of a folder. */
  folder?: string;
  encoder: OpenedTeacher;
}
const read = ['seed', 'student.keep', 'student.queryTokens', 'student.towers'] as const;

const spans = defineStage({
  name: 'kept texts',
  options: read,
  unrecorded: ['student.keep.model', 'student.keep.texts'],
  async make(options, inputs: Given, { note, time, watch }): Promise<Spans> {
    const { keep } = options.student;
    if (!keep) throw new Error('there is nothing to keep');
    const { encoder } = inputs;
    const { least, texts } = await time('generate', () => drawn(options, inputs));
    if (!texts.length)
      throw new InputError({
        code: 'keep.no-texts',
        subject: `no span of ${least} tokens can be made of the texts of 'student.keep'`,
        remedy: "name others under 'student.keep.texts', or remove 'student.keep'",
      });
    note(
      `${texts.length} general spans stay near the encoder as it was: ${keep.count} a step, their mean squared distance with the weight ${keep.weight}`,
    );
    const parts = await Promise.all(
      byRole(texts, options).map(async ({ role, own }) => ({
        role,
        found: await time('embed', () =>
          role === 'tokens' ? tokensOf(encoder)(own.map(ids), watch) : embed(encoder.teacher)(own, role, watch),
        ),
      })),
    );
    const { dimensions } = parts[0].found;
    const data = new Float32Array(texts.length * dimensions);
    for (const [p, { found }] of parts.entries())
      for (let i = 0; i * dimensions < found.data.length; i++)
        data.set(found.data.subarray(i * dimensions, (i + 1) * dimensions), (i * parts.length + p) * dimensions);
    if (!allFinite(data))
      throw new FaultError({
        code: 'keep.not-finite',
        subject: "the encoder of 'student.keep' gives non-finite embeddings",
        remedy: "name another under 'student.keep.model', or remove 'student.keep'",
      });
    return { texts, embeddings: { dimensions, data }, tokenizer: inputs.tokenizer.hash };
  },
  async cached(options, { general, tokenizer, encoder, folder }, cache) {
    if (!general || !tokenizer || !encoder) return undefined;
    const { texts } = await drawn(options, { general, tokenizer, encoder, folder });
    const count = byRole(texts, options).reduce(
      (n, { role, own }) =>
        n + (cache?.missingEmbeddings(encoder.key, role, { length: own.length, text: (i) => own[i] }) ?? own.length),
      0,
    );
    return { count, of: texts.length, unit: 'texts' };
  },
});

type Read = Options<(typeof read)[number]>;

/** The same number of spans of each table, a small one giving fewer; or sequences of random tokens. */
async function drawn({ student: { keep, queryTokens }, seed }: Read, { general, tokenizer, folder }: Given) {
  const tokens = keep?.tokens ?? [1, 1];
  const [least, longest] = tokens;
  if (keep?.kind === 'tokens') {
    const special = await specialTokens(folder as string, tokenizer);
    const known = Array.from({ length: tokenizer.vocabularySize }, (_, id) => id).filter((id) => !special.has(id));
    const random = Random.of(seed, 'kept tokens');
    // Nothing cuts them afterwards.
    const room = Math.min(queryTokens, tokenizer.modelMaxLength ?? queryTokens) - tokenizer.specialTokens;
    const most = Math.max(1, Math.min(longest, room));
    const from = Math.min(least, most);
    const sequence = (): string =>
      Array.from({ length: from + random.integer(most - from + 1) }, () => known[random.integer(known.length)]).join(
        ' ',
      );
    return { least, texts: Array.from({ length: KEPT_SPANS }, sequence) };
  }
  const count = Math.ceil(KEPT_SPANS / general.length);
  const texts = general.flatMap((table) => generateTexts(table, { kind: 'spans', count, tokens }, tokenizer, seed));
  return { least, texts };
}

const ids = (text: string): number[] => text.split(' ').map(Number);

/** @throws InputError where the encoder takes no tokens */
function tokensOf({ teacher }: OpenedTeacher): NonNullable<Teacher['embedTokens']> {
  if (teacher?.embedTokens) return teacher.embedTokens;
  throw new InputError({
    code: 'keep.tokens',
    subject:
      "'student.keep.kind: tokens' asks an encoder for the embeddings of token ids, which a service does not take",
    remedy: "name a folder under 'student.keep.model', or use 'kind: spans'",
  });
}

type Role = 'query' | 'document' | 'tokens';

/** Where both towers train, each second span is a document: its prompt and its length are then those of documents. */
function byRole(texts: readonly string[], { student }: Read): { role: Role; own: string[] }[] {
  const roles: Role[] =
    student.keep?.kind === 'tokens' ? ['tokens'] : student.towers === 'query' ? ['query'] : ['query', 'document'];
  return roles.map((role, r) => ({ role, own: texts.filter((_, i) => i % roles.length === r) }));
}

/** What of a run its student keeps; undefined where it keeps nothing. */
export async function keptTexts(run: RunContext, student: Result<Student>): Promise<Result<EmbeddedTexts> | undefined> {
  const { general, embedder, config } = run;
  const { keep, towers, queryTokens, documentTokens, prompts } = config.student;
  if (!keep || !general) return undefined;
  const limits = { queryTokens, documentTokens: config.train.documentTokens ?? documentTokens };
  const own = keep.model ?? (towers === 'query' ? undefined : startFolder(config.student));
  const model = own ?? localModel(config.embedder);
  const folder = model === undefined ? undefined : (await readModelFolder(model)).folder;
  const stage = async (encoder: Result<OpenedTeacher>): Promise<Result<Spans>> => {
    const opened = await encoder.value();
    // The spans are cut by the tokenizer of the encoder, which a dry run can read; a service has none here.
    const tokenizer = folder === undefined ? tokenizerOf(run, student) : given(await TextTokenizer.load(folder));
    return run.stage(spans, {
      general,
      tokenizer,
      folder: folder === undefined ? undefined : given(folder),
      encoder: given(opened, { 'the encoder that is kept': opened.key }),
    });
  };
  const made =
    own === undefined
      ? await stage(embedder as Result<OpenedTeacher>)
      : await run.withTeacher({ kind: 'dual-encoder', model: own, ...limits, prompts }, stage);
  const both = towers !== 'query';
  return derive({ made, student }, ({ made: { texts, embeddings, tokenizer }, student: s }) => {
    if (keep.kind === 'tokens' && tokenizer !== s.tokenizer.hash)
      throw new InputError({
        code: 'keep.tokenizer',
        subject:
          "'student.keep.kind: tokens' draws ids of the encoder's vocabulary, and the student has another tokenizer",
        remedy: "use 'kind: spans', or name an encoder with the student's tokenizer",
      });
    const limit = (tokens: number): number => Math.min(tokens, s.positions);
    const tokens = (i: number) =>
      keep.kind === 'tokens'
        ? s.tokenizer.wrap(ids(texts[i]))
        : both && i % 2
          ? s.documentTokens(texts[i], limit(limits.documentTokens))
          : s.queryTokens(texts[i], limit(limits.queryTokens));
    return { count: texts.length, embeddings, tokens };
  });
}
