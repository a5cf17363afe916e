/** @file What a compact checkpoint is like, as options of `distill export` and of `export` in a run's config. */
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { exportDTypes } from '../../students/export/dtypes.ts';

const count = z.int().positive();
const dtypeNames = [...exportDTypes, 'static-int8'] as const;

/** What a compact checkpoint is like: the options of `distill export`, and of `export` in a run's config. */
export const exportSchema = z
  .strictObject({
    dtype: z
      .union([z.enum(dtypeNames), z.array(z.enum(dtypeNames)).min(1)])
      .default('int8')
      .describe('numbers that weights are kept in; several give several files'),
    dimensions: count.optional().describe('how many of the vector, from the first on, stay'),
    vocabulary: z
      .enum(['all', 'corpus'])
      .default('all')
      .describe('corpus: only pieces that corpus and training queries use'),
    reserve: z.int().nonnegative().default(500).describe('further pieces kept where the vocabulary is cut'),
    tableRank: count.optional().describe('the word table as a product of two of this rank'),
    tables: z.enum(exportDTypes).optional().describe('dtype of the tables of words and positions; as dtype by default'),
    half: z.enum(['compute', 'storage']).default('compute').describe('fp16: whether arithmetic is done in halves too'),
    seal: z
      .boolean()
      .default(true)
      .describe('put back the special token that ends a text where a loader cut it off (transformers.js does)'),
    opset: z
      .int()
      .min(13)
      .max(20)
      .optional()
      .describe("ONNX operator set of the files, e.g. 18 for @xenova/transformers 2.17; the checkpoint's by default"),
    safetensors: z.boolean().default(true).describe('write model.safetensors too where the family is known'),
    tolerance: z.number().min(0).default(0.005).describe('share of dev nDCG@10 that a file may lose'),
    strict: z.boolean().default(false).describe('whether a file that loses more is refused'),
    guardQueries: count.default(300).describe('dev queries that files are measured with'),
    guardDocuments: count.default(3000).describe('documents that they are searched among, relevant ones included'),
  })
  .describe('compact files of the student');

export type ExportSettings = z.input<typeof exportSchema>;

/** The options with every default filled in. @throws InputError for the first mistake: key, what was expected, what was received */
export function parseExport(input: ExportSettings): z.output<typeof exportSchema> {
  const result = exportSchema.safeParse(input);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const [key = issue.code === 'unrecognized_keys' ? issue.keys[0] : ''] = issue.path;
  const received = (input as Record<PropertyKey, unknown>)[key];
  throw new InputError({
    code: 'export.invalid',
    subject: `the option '${String(key)}'`,
    expected: key === 'dtype' || key === 'tables' ? `one of ${dtypeNames.join(', ')}` : issue.message,
    received: String(received),
    remedy: 'see distill export --help',
  });
}
