/** @file The inputs of a teacher's file, and its batches: types, fixed shapes, masks and positions. */
import { InputError } from '../../common/errors.ts';
import { type BatchShape, type BlockSize, lengthBatches, padBatch, shapedBatches } from '../../data/batches.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import { type DType, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import type { ModelFile, Port } from '../../engine/io/model-file.ts';

export interface InputFacts {
  padId: number;
  /** Position of a text's first token. */
  firstPosition: number;
  /** Whether the mask hides padding from the model; true by default. */
  hidesPad?: boolean;
  /** Where the tokenizer pads; it counts where the file fixes the length. */
  paddingSide?: 'left' | 'right';
  /** Whether inputs of a generating model are known: key-value inputs, which stay empty, and how many logits are kept. */
  generates?: boolean;
}

export interface InputPlan {
  /** Rows and length where the file fixes them. */
  readonly rows: number | undefined;
  readonly length: number | undefined;
  /** Whether padding can be masked; otherwise batches contain only texts of equal length. */
  readonly masked: boolean;
  /** One line an input: its name, type and shape, and what it is given. */
  readonly says: readonly string[];
  feeds(texts: readonly Tokens[], shape: BlockSize): Record<string, Tensor>;
  /** Batches of texts of these lengths. @param most padded tokens a batch */
  batches(lengths: readonly number[], most: number, onDevice: boolean, maxLength: number): BatchShape[];
}

/** What each input that is understood is given; `docs/teachers.md` lists them. */
export const knownInputs: Readonly<Record<string, string>> = {
  input_ids: 'token ids',
  attention_mask: '1 at tokens, 0 at padding',
  token_type_ids: "segments as the tokenizer's post-processor gives them",
  position_ids: "0, 1, 2, …; in RoBERTa's kind from the padding token's id plus 1",
};
/** Additional inputs of generating models. */
export const knownGenerating: Readonly<Record<string, string>> = {
  'past_key_values.*': 'empty',
  use_cache_branch: 'false',
  num_logits_to_keep: '1',
  logits_to_keep: '1',
};

const idTypes: ReadonlySet<string> = new Set(['int64', 'int32']);
const maskTypes: ReadonlySet<string> = new Set(['int64', 'int32', 'float32', 'float16', 'bool', 'uint8', 'int8']);
const isPast = (name: string): boolean => /^past(_key_values)?[._]/.test(name);

/**
 * @throws InputError that names an input that is not understood, or a shape or type that cannot be given
 */
export function planInputs(model: ModelFile, facts: InputFacts): InputPlan {
  const { inputs, file } = model;
  const refuse = (subject: string, remedy: string, expected?: string): never => {
    throw new InputError({ code: 'teacher.inputs', subject: `${file} ${subject}`, expected, remedy });
  };
  const ids = inputs.find((v) => v.name === 'input_ids');
  if (!ids)
    return refuse(`has the inputs ${inputs.map((v) => v.name).join(', ')}`, 'export it with token ids', 'input_ids');
  for (const v of inputs) check(v, facts, refuse);
  const keepsLast = inputs.some((v) => /^(num_)?logits_to_keep$/.test(v.name));
  const rows = fixed(ids.dims?.[0]);
  const length = fixed(ids.dims?.[1]);
  if (ids.dims && ids.dims.length !== 2)
    refuse(`has an input input_ids of shape [${ids.dims}]`, 'export it for batches of token ids', '[batch, sequence]');
  const { hidesPad = true } = facts;
  const hasMask = inputs.some((v) => v.name === 'attention_mask' && v.read !== false);
  const masked = hasMask && !keepsLast && (hidesPad || length !== undefined);
  if (length !== undefined && !masked)
    refuse(
      `has a fixed length of ${length} tokens and no attention_mask, so that shorter texts cannot be told from padding`,
      'export it with dynamic axes or with an attention_mask',
    );
  const says = inputs.map(
    (v) => `${v.name} ${v.dtype} [${v.dims?.map((d) => (d === '' ? '?' : d)).join(', ') ?? '?'}]: ${given(v.name)}`,
  );
  if (!masked) says.push('texts of one length alone share a batch: nothing masks padding');
  return {
    rows,
    length,
    masked,
    says,
    feeds: (texts, shape) => feedsOf(inputs, texts, shape, length === undefined ? 'right' : facts.paddingSide, facts),
    batches(lengths, most, onDevice, maxLength) {
      const own = lengths.map((n) => Math.max(1, n));
      if (masked && rows === undefined && length === undefined) return shapedBatches(own, most, onDevice, maxLength);
      const block = own.map((n) => length ?? n);
      const groups = masked ? [own.map((_, i) => i)] : byLength(own);
      return groups.flatMap((group) =>
        lengthBatches(
          group.map((i) => block[i]),
          rows === undefined ? most : Number.POSITIVE_INFINITY,
          rows,
        ).map((at) => {
          const positions = at.map((k) => group[k]);
          return { at: positions, rows: rows ?? at.length, length: block[positions[0]] };
        }),
      );
    },
  };
}

const fixed = (dim: number | string | undefined): number | undefined =>
  typeof dim === 'number' && dim > 0 ? dim : undefined;

const given = (name: string): string => knownInputs[name] ?? (isPast(name) ? 'empty' : knownGenerating[name]);

function check({ name, dtype, dims }: Port, { generates }: InputFacts, refuse: (s: string, r: string) => never): void {
  if (generates && isPast(name)) {
    if (!['float32', 'float16'].includes(dtype))
      refuse(`has an input '${name}' of type ${dtype}`, 'export it with key-value inputs of float32 or float16');
    if (dims?.length !== 4 || !fixed(dims[1]) || !fixed(dims[3]) || fixed(dims[2]))
      refuse(
        `has an input '${name}' of shape [${dims ?? 'unknown'}], which cannot be left empty`,
        'export it without key-value inputs (task text-generation, not text-generation-with-past)',
      );
    return;
  }
  if (!Object.hasOwn(knownInputs, name) && !(generates && Object.hasOwn(knownGenerating, name)))
    refuse(
      `needs an input '${name}', which is not understood`,
      isPast(name)
        ? "use 'teacher.kind: generative' if it is a causal language model"
        : `export it without that input; understood are ${Object.keys(knownInputs).join(', ')}`,
    );
  if (!(name === 'attention_mask' || name === 'use_cache_branch' ? maskTypes : idTypes).has(dtype))
    refuse(`has an input '${name}' of type ${dtype}`, 'export it with inputs of int64 or int32');
}

function byLength(lengths: readonly number[]): number[][] {
  const groups = new Map<number, number[]>();
  for (const [i, n] of lengths.entries()) {
    const group = groups.get(n);
    if (group) group.push(i);
    else groups.set(n, [i]);
  }
  return [...groups.values()];
}

function feedsOf(
  inputs: readonly Port[],
  texts: readonly Tokens[],
  shape: BlockSize,
  side: 'left' | 'right' | undefined,
  { padId, firstPosition }: InputFacts,
): Record<string, Tensor> {
  const b = padBatch(texts, padId, shape, side);
  const { rows, length } = b;
  const values: Record<string, BigInt64Array> = { input_ids: b.ids, attention_mask: b.mask, token_type_ids: b.typeIds };
  const feeds: Record<string, Tensor> = {};
  for (const port of inputs) {
    const { name, dtype, dims } = port;
    if (values[name]) feeds[name] = typed(dtype, [rows, length], values[name]);
    else if (name === 'position_ids') {
      const n = dims?.[0] === 1 ? 1 : rows;
      feeds[name] = typed(dtype, [n, length], positions(b.mask, n, length, firstPosition, n < rows));
    } else if (isPast(name)) {
      const shape = [rows, Number(dims?.[1]), 0, Number(dims?.[3])];
      feeds[name] = {
        dtype: dtype as DType,
        dims: shape,
        data: new (dtype === 'float16' ? Uint16Array : Float32Array)(0),
      } as Tensor;
    } else feeds[name] = typed(dtype, dims?.length ? [1] : [], BigInt64Array.of(name === 'use_cache_branch' ? 0n : 1n));
  }
  return feeds;
}

/** As the family counts: from 0 by place, padding counted on; in RoBERTa's kind padding has the padding token's id. */
function positions(mask: BigInt64Array, rows: number, length: number, first: number, shared: boolean): BigInt64Array {
  return BigInt64Array.from({ length: rows * length }, (_, i) => {
    const place = i % length;
    if (!first) return BigInt(place);
    return BigInt(shared || mask[i] ? first + place : first - 1);
  });
}

/** Whole numbers in the type that an input has; of half floats 0 and 1 alone, which masks are made of. */
function typed(dtype: string, dims: readonly number[], values: BigInt64Array): Tensor {
  if (dtype === 'int64') return { dtype, dims, data: values };
  if (dtype === 'float16') return { dtype, dims, data: Uint16Array.from(values, (v) => (v ? 0x3c00 : 0)) };
  return tensor(dtype as DType, dims, values);
}
