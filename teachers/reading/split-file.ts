/** @file A split cross-encoder's folder: what split.json says, and where its two graphs are. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { readFacts } from './facts-file.ts';

const FILE = 'split.json';
const FORMAT = 'onnx-distill-split-1';

const count = z.number().int().positive();
const prompt = z.strictObject({ before: z.string(), after: z.string() });
const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Layers below the cut, and of the whole model. */
  below: count,
  layers: count,
  /** Position of a document's first token. */
  documentStart: z.number().int().nonnegative(),
  /** Tokens that are read of a text with its special tokens, and of a query and a document alone where they are limited. */
  maxLength: count,
  maxQuery: count.optional(),
  maxDocument: count.optional(),
  /** Around the texts. */
  prompts: z.strictObject({ query: prompt, document: prompt }),
});

/** As split.json says it. */
export type SplitFile = Omit<z.infer<typeof schema>, 'format'>;

const hasSplit = (folder: string): boolean => existsSync(join(folder, FILE));

/** The graphs of the layers below and above the cut. */
export const splitGraphs = (folder: string): { below: string; above: string } => ({
  below: join(folder, 'onnx', 'below.onnx'),
  above: join(folder, 'onnx', 'above.onnx'),
});

/** What stands in split.json, by its path in the folder. */
export const splitJson = (facts: SplitFile): [string, string] => [
  FILE,
  `${JSON.stringify({ format: FORMAT, ...facts } satisfies z.infer<typeof schema>, null, 1)}\n`,
];

/** @throws InputError where a folder holds a split cross-encoder, which reads no pair as a whole */
export function refuseSplit(folder: string): void {
  if (!hasSplit(folder)) return;
  throw new InputError({
    code: 'split.whole',
    subject: `${folder} holds a split cross-encoder, whose lower layers read query and document alone`,
    remedy: 'open it with openSplitReranker, or give the folder of the cross-encoder that it was made of',
  });
}

/** @throws InputError where split.json is not understood, or a graph is missing */
export async function readSplit(folder: string): Promise<SplitFile> {
  const file = join(folder, FILE);
  const refuse = (why: string): never => {
    throw new InputError({
      code: 'split.file',
      subject: `${file} is no description of a split cross-encoder of this version (${why})`,
      remedy: 'make the folder again with distill split',
    });
  };
  const { format: _, ...facts } = await readFacts(file, schema, refuse);
  if (facts.below >= facts.layers) refuse('below: not less than layers');
  const missing = Object.values(splitGraphs(folder)).find((f) => !existsSync(f));
  if (missing !== undefined) refuse(`there is no file ${missing}`);
  return facts;
}
