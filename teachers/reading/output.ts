/** @file Which output of a teacher's file is its score, and whether it is a logit or a probability. */
import { InputError } from '../../common/errors.ts';
import type { LastActivation, ModelFile, ModelSource, Port } from '../../engine/io/model-file.ts';

const floats: ReadonlySet<string> = new Set(['float32', 'float16', 'bfloat16', 'float64']);
/** Outputs of two dimensions that are vectors and no scores. */
const vectors: ReadonlySet<string> = new Set([
  'pooler_output',
  'sentence_embedding',
  'last_hidden_state',
  'token_embeddings',
]);
/** More columns than any classifier of pairs has labels. */
const MOST_LABELS = 32;

export interface ScoreOutput {
  port: Port;
  /** A sigmoid or softmax before it, which is left out. */
  activation: LastActivation | undefined;
  /** Whether it holds probabilities whose activation the graph does not show: their logit is taken. */
  probability: boolean;
  note?: string;
}

/**
 * The output of the name given, `logits`, or the only one that can hold a score a label.
 * @throws InputError where there is none or more than one
 */
export function scoreOutput(model: ModelFile, name?: string): ScoreOutput {
  const { outputs, file } = model;
  const port = outputs.find((v) => v.name === (name ?? 'logits')) ?? (name === undefined ? only(outputs) : undefined);
  if (!port)
    throw new InputError({
      code: name === undefined ? 'teacher.no-logits' : 'teacher.output',
      subject: `${file} has the outputs ${outputs.map((v) => v.name).join(', ')}`,
      expected: name ?? 'logits',
      remedy:
        name === undefined
          ? "give a cross-encoder (a sequence classification model), name its output as 'teacher.output', or use teacher.kind dual-encoder"
          : "name one of them as 'teacher.output'",
    });
  if (!floats.has(port.dtype))
    throw new InputError({
      code: 'teacher.output',
      subject: `${file} has an output '${port.name}' of type ${port.dtype}`,
      expected: 'logits of float32, float16, bfloat16 or float64',
      remedy: 'export it with its logits as output',
    });
  const activation = model.activation(port.name);
  const probability = !activation && /prob/i.test(port.name);
  const note = activation
    ? `'${port.name}' ends with a ${activation}: the value before it is the score`
    : probability
      ? `'${port.name}' is taken for probabilities: the score is their logit`
      : undefined;
  return { port, activation, probability, note };
}

function only(outputs: readonly Port[]): Port | undefined {
  const found = outputs.filter(({ name, dtype, dims }) => {
    if (vectors.has(name) || !floats.has(dtype) || !dims) return false;
    const columns = dims[1];
    return dims.length === 1 || (dims.length === 2 && (typeof columns !== 'number' || columns <= MOST_LABELS));
  });
  return found.length === 1 ? found[0] : undefined;
}

/** The file unchanged, or changed so that its score can be read. */
export function scoreSource(model: ModelFile, { port, activation }: ScoreOutput): Promise<ModelSource> {
  const unread = model.outputs.some((v) => v.dtype === 'bfloat16');
  if (!activation && !unread) return model.source();
  return model.source({ output: port.name, beforeActivation: Boolean(activation), float: port.dtype === 'bfloat16' });
}

/** The nearest numbers to 0 and 1 whose logit is taken; beyond them a float32 probability says nothing. */
const [LEAST, MOST] = [2 ** -126, 1 - 2 ** -24];

/** The logit of a probability. */
export const logitOf = (p: number): number => {
  const q = Math.min(Math.max(p, LEAST), MOST);
  return Math.log(q) - Math.log1p(-q);
};

/** How many values a pair an output holds. @throws InputError where its shape is not a table of pairs */
export function columnsOf(dims: readonly number[], rows: number, { port, file }: { port: Port; file: string }): number {
  const [first, columns = 1, ...rest] = dims;
  if (first === rows && rest.every((d) => d === 1)) return columns;
  throw new InputError({
    code: 'teacher.output',
    subject: `${file} gives '${port.name}' of shape [${dims.join(', ')}] for ${rows} pairs`,
    expected: '[pairs] or [pairs, labels]',
    remedy:
      dims.length === 3
        ? "use 'teacher.kind: generative' for a causal language model, or give a sequence classification model"
        : 'give a sequence classification model',
  });
}
