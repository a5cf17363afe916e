/** @file The second stage of an index: what its vectors find is re-ranked by token vectors of the documents, stored next to them. */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { FaultError, InputError, shown } from '../../common/errors.ts';
import { canonicalJson, hashParts, writeWhole } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { allFinite } from '../../math/finite.ts';
import type { Rows } from '../../math/numbers.ts';
import { poolTokens, withoutTokens } from '../../retrieval/multi-vector/compact.ts';
import { type TokenCodecName, tokenCodecs } from '../../retrieval/multi-vector/token-codec.ts';
import { type LateEncoder, type LateEncoderOptions, openLateEncoder } from './late-encoder.ts';
import { TokenStore } from './token-store.ts';

const FILE = 'second-stage.json';
const FORMAT = 'onnx-distill-second-stage-1';
const FOLDER = 'tokens';

const count = z.number().int().positive();
const codecs = Object.keys(tokenCodecs) as [TokenCodecName, ...TokenCodecName[]];
const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Of the re-ranker, and of the token vectors of its documents. */
  key: z.string(),
  documentsKey: z.string(),
  depth: count,
  codec: z.enum(codecs),
  /** The first so many tokens of a document are stored; all that the re-ranker reads where absent. */
  tokens: count.optional(),
  /** One of so many token vectors is left by pooling. */
  pool: count.optional(),
  /** Whether tokens of punctuation are left out. */
  punctuation: z.boolean(),
});

/** How token vectors are stored, and how many documents of the first stage are re-ranked. */
export interface SecondStageSettings {
  depth?: number;
  codec?: TokenCodecName;
  tokens?: number;
  pool?: number;
  punctuation?: boolean;
}

/** A document that was found. */
interface Found {
  readonly id: string;
  readonly text: string;
  readonly score: number;
}

/** An open second stage. */
export interface SecondStage {
  /** Documents of the first stage that are re-ranked. */
  readonly depth: number;
  /** Of what its scores depend on. */
  readonly key: string;
  readonly settings: Required<Pick<SecondStageSettings, 'depth' | 'codec' | 'punctuation'>> & SecondStageSettings;
  /** Bytes of the stored token vectors; and a document. */
  readonly bytes: number;
  readonly bytesADocument: number;
  /** Whether the token vectors of a document's text are stored. */
  has(document: { id: string; text: string }): boolean;
  /** Stores the token vectors of documents. */
  add(documents: readonly { id: string; text: string }[], watch?: RunControl): Promise<void>;
  /** The same documents in the order of token vectors, with their new scores. Those without stored vectors are encoded now. */
  rerank<T extends Found>(text: string, found: readonly T[], watch?: RunControl): Promise<T[]>;
  close(): Promise<void>;
}

const PUNCTUATION = [...'!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~'];

/** Whether an index has a second stage. */
export const hasSecondStage = (index: string): boolean => existsSync(join(index, FILE));

/** Makes the second stage of an empty index. @throws InputError where a setting is not one */
export async function createSecondStage(
  index: string,
  checkpoint: string,
  { depth = 100, codec = 'int8', tokens, pool, punctuation = true }: SecondStageSettings = {},
  options: LateEncoderOptions = {},
): Promise<void> {
  if (!Object.hasOwn(tokenCodecs, codec))
    throw new InputError({
      code: 'index.tokens',
      subject: `there is no encoding of token vectors '${codec}'`,
      expected: codecs.join(', '),
      remedy: 'name one of these',
    });
  for (const [name, value] of Object.entries({ depth, tokens, pool }))
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new InputError({
        code: 'index.tokens',
        subject: `'${name}' of the second stage is ${value}`,
        expected: 'a whole number above 0',
      });
  const encoder = await openLateEncoder(checkpoint, options);
  try {
    const documentsKey = await encoder.documentsKey();
    const content: z.infer<typeof schema> = {
      format: FORMAT,
      key: encoder.key,
      documentsKey,
      depth,
      codec,
      ...(tokens !== undefined && { tokens }),
      ...(pool !== undefined && { pool }),
      punctuation,
    };
    await mkdir(index, { recursive: true });
    await writeWhole(join(index, FILE), `${JSON.stringify(content, null, 1)}\n`);
  } finally {
    await encoder.dispose();
  }
}

/**
 * Opens the second stage of an index.
 * @throws InputError where its file is not understood, or the checkpoint is another one than it was made with
 */
export async function openSecondStage(
  index: string,
  checkpoint: string,
  options: LateEncoderOptions = {},
): Promise<SecondStage> {
  const file = join(index, FILE);
  const parsed = schema.safeParse(await readJson(file));
  if (!parsed.success)
    throw new InputError({
      code: 'index.damaged',
      subject: `${file} is not a second stage of this version (${parsed.error.issues[0].path.join('.')}: ${parsed.error.issues[0].message})`,
      remedy: 'make the index again with distill index',
    });
  const encoder = await openLateEncoder(checkpoint, options);
  const { key, format: _, ...settings } = parsed.data;
  if (encoder.key !== key || (await encoder.documentsKey()) !== settings.documentsKey) {
    await encoder.dispose();
    throw new InputError({
      code: 'index.other-encoder',
      subject: `the re-ranker of ${checkpoint} is another one than the token vectors of ${index} were made with`,
      remedy: 'name the right checkpoint, or make the index again',
    });
  }
  return stageOf(index, encoder, settings);
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch {
    return undefined;
  }
}

type Settings = Omit<z.infer<typeof schema>, 'format' | 'key'>;

async function stageOf(index: string, encoder: LateEncoder, settings: Settings): Promise<SecondStage> {
  const { depth, codec, tokens: most, pool, punctuation, documentsKey } = settings;
  const folder = join(index, FOLDER);
  const header = { codec, width: encoder.settings.dimensions, key: hashParts(documentsKey, canonicalJson(settings)) };
  const left: ReadonlySet<number> = punctuation ? new Set() : await encoder.idsOf(PUNCTUATION);
  // Made, so that there is something to read; a reader opens it again without the right to write.
  if (!existsSync(join(folder, 'tokens.json'))) (await TokenStore.open(folder, header)).close();
  let store = await TokenStore.open(folder);
  let writes = false;
  const compact = (tokens: Rows, ids: Int32Array): Rows => {
    const D = tokens.dimensions;
    const cut = most === undefined ? tokens : { dimensions: D, data: (tokens.data as Float32Array).slice(0, most * D) };
    const shown = left.size ? withoutTokens(cut, ids, left) : cut;
    return pool ? poolTokens(shown, pool) : shown;
  };
  const encoded = async (texts: readonly string[], watch: RunControl): Promise<Rows[]> => {
    const out: Rows[] = Array(texts.length);
    const table = { length: texts.length, text: (i: number) => texts[i] };
    await encoder.documents(
      table,
      (at, { tokens, ids }) => {
        if (!allFinite(tokens.data))
          throw new FaultError({
            code: 'index.not-finite',
            subject: `the token vectors of '${shown(texts[at].slice(0, 60))}' are not finite`,
            remedy: 'use another file of the model, or leave the document out',
          });
        out[at] = compact(tokens, ids);
      },
      watch,
    );
    return out;
  };
  return {
    depth,
    settings: { depth, codec, tokens: most, pool, punctuation },
    key: hashParts('second stage', encoder.key, canonicalJson(settings)),
    get bytes() {
      return store.bytes;
    },
    get bytesADocument() {
      return store.bytesADocument;
    },
    has: ({ id, text }) => store.has(id, text),
    async add(documents, watch = {}) {
      if (!writes) {
        store.close();
        store = await TokenStore.open(folder, header);
        writes = true;
      }
      const absent = documents.filter((d) => !store.has(d.id, d.text));
      const tokens = await encoded(
        absent.map((d) => d.text),
        watch,
      );
      if (absent.length) store.add(absent.map(({ id, text }, i) => ({ id, text, tokens: tokens[i] })));
    },
    async rerank(text, found, watch = {}) {
      const [query] = await encoder.queries([text], { signal: watch.signal });
      const stored = found.map((d) => store.get(d.id, d.text));
      const absent = [...stored.keys()].filter((i) => !stored[i]);
      const fresh = absent.length
        ? await encoded(
            absent.map((i) => found[i].text),
            { signal: watch.signal },
          )
        : [];
      for (const [k, i] of absent.entries()) stored[i] = fresh[k];
      return found
        .map((d, i) => ({ ...d, score: encoder.score(query.tokens, stored[i] as Rows, d.score) }))
        .sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
    },
    async close() {
      store.close();
      await encoder.dispose();
    },
  };
}
