/** @file Checks of plain arrays given to a loss: shapes against the table of inputs, missing inputs, non-finite values. */
import { InputError } from '../common/errors.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { allFinite } from '../math/finite.ts';
import { type Dimension, isPadded, type LossDefinition, type LossInput, lossInputs } from './inputs.ts';

const shape = (dims: readonly (number | string)[]): string => `[${dims.join(', ')}]`;

/** @throws InputError that names the input, its shape and the shape that the other inputs require */
export function checkArrays(loss: LossDefinition, given: ReadonlyMap<LossInput, Tensor>): void {
  for (const name of loss.needs)
    if (!given.has(name))
      throw new InputError({
        code: 'loss.missing-input',
        subject: `loss '${loss.name}' has no '${name}'`,
        expected: loss.needs.join(', '),
        received: [...given.keys()].join(', ') || 'nothing',
      });
  const sizes = new Map<Dimension, { size: number; by: LossInput }>();
  for (const [name, tensor] of given) checkShape(loss, name, tensor, sizes);
  checkWidths(loss, given, sizes);
  const mask = given.get('mask')?.data as Float64Array | undefined;
  const documents = sizes.get('documents')?.size;
  for (const [name, { dims, data }] of given) {
    const { unknown, integer } = lossInputs[name];
    if (!integer && allFinite(data as Float64Array)) continue;
    for (let i = 0; i < data.length; i++) {
      const value = Number(data[i]);
      const wrong = integer
        ? documents !== undefined && !(value >= 0 && value < documents)
        : !Number.isFinite(value) &&
          !(unknown && Number.isNaN(value)) &&
          !(mask && isPadded(name) && !real(name, i, dims, mask));
      if (!wrong) continue;
      throw new InputError({
        code: integer ? 'loss.position' : 'loss.not-finite',
        subject: `'${name}' of loss '${loss.name}' at ${shape(indexOf(i, dims))}`,
        expected: integer ? `a position among the ${documents} documents` : 'a finite number',
        received: String(value),
        remedy: integer
          ? 'count documents from 0'
          : isPadded(name)
            ? 'set the mask to 0 there, or leave the query out'
            : 'leave the query out',
      });
    }
  }
}

function checkShape(
  loss: LossDefinition,
  name: LossInput,
  { dims, data }: Tensor,
  sizes: Map<Dimension, { size: number; by: LossInput }>,
): void {
  const wanted = lossInputs[name].dims;
  const refuse = (why: string): never => {
    throw new InputError({
      code: 'loss.shape',
      subject: `'${name}' of loss '${loss.name}'`,
      expected: `${shape(wanted.map((d) => sizes.get(d)?.size ?? d))} (${wanted.join(' x ')}${why})`,
      received: shape(dims),
    });
  };
  if (dims.length !== wanted.length || dims.some((d) => !Number.isInteger(d) || d < 1)) refuse('');
  for (const [i, d] of wanted.entries()) {
    const known = sizes.get(d);
    if (known && known.size !== dims[i]) refuse(`; '${known.by}' has ${known.size} ${d}`);
    if (!known) sizes.set(d, { size: dims[i], by: name });
  }
  if (dims.reduce((a, b) => a * b, 1) !== data.length)
    throw new InputError({
      code: 'loss.shape',
      subject: `'${name}' of loss '${loss.name}'`,
      expected: `as many numbers as ${shape(dims)} has`,
      received: `${data.length} numbers`,
    });
}

/** Losses that compare student and teacher embeddings need equal widths, or a projection. */
function checkWidths(
  loss: LossDefinition,
  given: ReadonlyMap<LossInput, Tensor>,
  sizes: ReadonlyMap<Dimension, { size: number; by: LossInput }>,
): void {
  if (!loss.uses?.includes('projection')) return;
  const student = sizes.get(given.has('projection') ? 'teacherWidth' : 'width');
  for (const d of ['teacherWidth', 'pairWidth'] as const) {
    const teacher = sizes.get(d);
    if (student && teacher && student.size !== teacher.size)
      throw new InputError({
        code: 'loss.shape',
        subject: `loss '${loss.name}' compares '${student.by}' of ${student.size} dimensions with '${teacher.by}' of ${teacher.size}`,
        remedy: `give a 'projection' [${sizes.get('width')?.size ?? 'width'}, ${teacher.size}]`,
      });
  }
}

/** Whether a number belongs to a candidate that is not padding. */
function real(name: LossInput, at: number, dims: readonly number[], mask: Float64Array): boolean {
  const index = indexOf(at, dims);
  const named = lossInputs[name].dims;
  const candidates = dims[named.indexOf('candidates')];
  return mask[index[0] * candidates + index[named.indexOf('candidates')]] > 0;
}

function indexOf(at: number, dims: readonly number[]): number[] {
  const index: number[] = [];
  let rest = at;
  for (let k = dims.length - 1; k >= 0; k--) {
    index.unshift(rest % dims[k]);
    rest = Math.floor(rest / dims[k]);
  }
  return index;
}
