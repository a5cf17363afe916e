/** @file cascade.json: the policy of a cascade, its guarantee, and the data it was certified on. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { type RuleName, rules } from '../adaptive/rules/index.ts';
import { FEATURES } from '../adaptive/rules/states.ts';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { sealed, type Unsealed, unsealed, unsealedReason } from '../common/sealed.ts';
import { findPlace, placeOf } from './documents/index-file.ts';

const FORMAT = 'onnx-distill-cascade-2';

const count = z.number().int().nonnegative();
const share = z.number().min(0).max(1);
const place = { relative: z.string(), path: z.string() };
const tokens = z.number().int().positive().optional();

const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** The checkpoint, or the index, that finds candidates; `key` is of what their scores depend on. */
  student: z.strictObject({
    ...place,
    key: z.string(),
    dtype: z.string().optional(),
    /** How its vectors were stored and searched when the promise was certified. */
    settings: z.looseObject({ codec: z.string() }),
  }),
  teacher: z.strictObject({ ...place, key: z.string(), queryTokens: tokens, documentTokens: tokens }),
  /** What was certified on: a data set by the hash of its documents, and the queries by the hash of theirs. */
  data: z.strictObject({
    name: z.string(),
    documents: z.string(),
    split: z.string(),
    queries: z.string(),
    seed: count,
  }),
  /** Candidates that the student finds for a query. */
  candidates: z.number().int().positive(),
  policy: z.strictObject({
    depths: z.array(z.number().int().positive()),
    fusion: z.number(),
    rule: z.enum(Object.keys(rules) as [RuleName, ...RuleName[]]),
    parameters: z.array(z.number()),
    /** `all`: the teacher scores every candidate of every query; `none`: it is never asked. */
    threshold: z.union([z.number(), z.literal('all'), z.literal('none')]),
    /** Of a teacher with exits: how settled a document's place must be before it leaves the layers; all layers where absent. */
    exits: z.number().nonnegative().optional(),
  }),
  guarantee: z.strictObject({
    alpha: z.number(),
    delta: share,
    bound: z.string(),
    loss: z.enum(['clipped', 'signed']),
    against: z.enum(['labels', "the teacher's order"]),
    queries: count,
    needed: count,
    certified: z.boolean(),
    risk: z.number(),
    pairs: z.number().nonnegative(),
    layers: z.number().nonnegative().optional(),
  }),
  /** Needs of the certifying queries before the teacher was asked, ascending, and the share of them that was deferred. */
  calibration: z.strictObject({ needs: z.array(z.number()), deferred: share }),
});

type Stored = z.infer<typeof schema>;
type Place = 'relative' | 'path';

/** As `cascade.json` says it, with paths that lead somewhere and a threshold that is a number. */
export interface CascadeFile extends Omit<Stored, 'format' | 'policy' | 'student' | 'teacher'> {
  student: Omit<Stored['student'], Place> & { path: string };
  teacher: Omit<Stored['teacher'], Place> & { path: string };
  policy: Omit<Stored['policy'], 'threshold'> & { threshold: number };
}

export async function writeCascade(file: string, cascade: CascadeFile): Promise<void> {
  const { threshold } = cascade.policy;
  const named =
    threshold === Number.NEGATIVE_INFINITY ? 'all' : threshold === Number.POSITIVE_INFINITY ? 'none' : threshold;
  const stored: Stored = {
    format: FORMAT,
    ...cascade,
    student: { ...cascade.student, ...placeOf(dirname(file), cascade.student.path) },
    teacher: { ...cascade.teacher, ...placeOf(dirname(file), cascade.teacher.path) },
    policy: { ...cascade.policy, threshold: named },
  };
  await writeWhole(file, sealed(stored));
}

/** @throws InputError where there is no such file, or it is not understood */
export async function readCascade(file: string): Promise<CascadeFile> {
  if (!existsSync(file))
    throw new InputError({
      code: 'cascade.none',
      subject: `there is no file ${file}`,
      remedy: 'make it with distill cascade --output',
    });
  const read = unsealed(await readFile(file, 'utf8'));
  const parsed = read.value && schema.safeParse(read.value);
  const why = !parsed
    ? unsealedReason(read as { why: Unsealed }, FORMAT)
    : parsed.success
      ? problemOf(parsed.data)
      : issueOf(read.value, parsed.error);
  if (!parsed?.success || why)
    throw new InputError({
      code: 'cascade.file',
      subject: `${file} is not a cascade of this version (${why})`,
      remedy: 'make it again with distill cascade',
    });
  const { format: _, student, teacher, policy, ...rest } = parsed.data;
  const here = <T extends Record<Place, string>>({ relative, path, ...other }: T) => ({
    ...other,
    path: findPlace(dirname(file), { relative, path }),
  });
  const { threshold } = policy;
  return {
    ...rest,
    student: here(student),
    teacher: here(teacher),
    policy: {
      ...policy,
      threshold:
        threshold === 'all' ? Number.NEGATIVE_INFINITY : threshold === 'none' ? Number.POSITIVE_INFINITY : threshold,
    },
  };
}

function issueOf(value: unknown, error: z.ZodError): string {
  const { format } = (value ?? {}) as { format?: unknown };
  if (format !== FORMAT) return `format ${JSON.stringify(format)}, expected ${FORMAT}`;
  const [issue] = error.issues;
  return [issue.path.join('.'), issue.message].filter(Boolean).join(': ');
}

/** Checks beyond the schema. */
function problemOf({ policy, candidates, calibration, guarantee }: Stored): string | undefined {
  const { depths, parameters, rule, threshold } = policy;
  if (depths.some((d, i) => i > 0 && d <= depths[i - 1]) || depths.some((d) => d > candidates))
    return 'policy.depths: not ascending up to the candidates';
  const fitted = rules[rule].fit.length > 0;
  if (parameters.length !== (fitted ? 3 * FEATURES + 1 : 0)) return `policy.parameters: not those of the rule ${rule}`;
  if (calibration.needs.some((n, i) => i > 0 && n < calibration.needs[i - 1]))
    return 'calibration.needs: not ascending';
  if (!guarantee.certified && threshold !== 'all') return 'policy.threshold: nothing is certified, and it is not all';
  return undefined;
}

/** The guarantee as a sentence. */
export function guaranteeSentence({ guarantee: g, candidates }: Pick<CascadeFile, 'guarantee' | 'candidates'>): string {
  const percent = (x: number): string => `${Number((100 * x).toPrecision(6))} %`;
  const asked = `a risk of ${g.alpha} with a confidence of ${percent(1 - g.delta)}`;
  if (!g.certified)
    return `nothing could be certified with ${g.queries} queries: ${asked} ${g.queries < g.needed ? `needs at least ${g.needed}, and as many to fit on` : 'is more than they show'}; the teacher re-ranks all ${candidates} candidates of every query`;
  const loss =
    g.loss === 'clipped' ? 'a query loses on average' : 'the mean nDCG@10, gains counted against losses, is lower by';
  return `against re-ranking all ${candidates} candidates, ${loss} at most ${g.alpha} of nDCG@10 (${g.against === 'labels' ? 'by labels' : "by the teacher's order"}) with a confidence of ${percent(1 - g.delta)}, certified on ${g.queries} queries`;
}
