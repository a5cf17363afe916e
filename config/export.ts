/** @file Options of a compact checkpoint: of `distill export`, and of `export` in a run's config. */
import { z } from 'zod';
import { InputError } from '../common/errors.ts';
import { exportDTypes } from '../students/export/dtypes.ts';

const count = z.int().positive();
const dtypeNames = [...exportDTypes, 'static-int8'] as const;

export const exportSchema = z
  .strictObject({
    dtype: z
      .union([z.enum(dtypeNames), z.array(z.enum(dtypeNames)).min(1)])
      .default('int8')
      .describe('data type of the weights; several give several files'),
    dimensions: count.optional().describe('dimensions kept, from the first on'),
    vocabulary: z
      .enum(['all', 'corpus'])
      .default('all')
      .describe('corpus: only pieces that corpus and training queries use'),
    reserve: z.int().nonnegative().default(500).describe('further pieces kept where the vocabulary is cut'),
    tableRank: count.optional().describe('the word table is factored into a product of this rank'),
    tables: z.enum(exportDTypes).optional().describe('dtype of the tables of words and positions; as dtype by default'),
    half: z
      .enum(['compute', 'storage'])
      .default('compute')
      .describe('fp16: whether arithmetic is in half precision too'),
    seal: z
      .boolean()
      .default(true)
      .describe('restore the special token at the end of texts that a loader has truncated (transformers.js drops it)'),
    opset: z
      .int()
      .min(13)
      .max(20)
      .optional()
      .describe("ONNX operator set of the files, e.g. 18 for @xenova/transformers 2.17; the checkpoint's by default"),
    safetensors: z.boolean().default(true).describe('write model.safetensors too where the family is known'),
    tolerance: z.number().min(0).default(0.005).describe('share of dev nDCG@10 that a file may lose'),
    strict: z.boolean().default(false).describe('whether a file that loses more than the tolerance is refused'),
    guardQueries: count.default(300).describe('dev queries that files are measured with'),
    guardDocuments: count.default(3000).describe('documents searched for them, relevant ones included'),
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
