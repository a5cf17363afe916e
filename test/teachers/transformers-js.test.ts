/** @file A model object of transformers.js as teacher: where texts are cut, and half floats as every Node gives them. */
import { expect, test } from 'vitest';
import { type TransformersOptions, transformersTeacher } from '../../teachers/transformers-js.ts';

class Tensor {
  readonly type: string;
  readonly data: BigInt64Array;
  readonly dims: number[];
  constructor(type: string, data: BigInt64Array, dims: number[]) {
    [this.type, this.data, this.dims] = [type, data, dims];
  }
}

/** A token a letter: 1 before, 2 behind each text. */
const tokenizer = (facts: Record<string, unknown>) =>
  Object.assign((text: string, options: Record<string, unknown>) => {
    const own = (t: string): number[] => [...t].map(() => 7);
    const pair = typeof options.text_pair === 'string' ? [...own(options.text_pair), 2] : [];
    const ids = options.add_special_tokens === false ? own(text) : [1, ...own(text), 2, ...pair];
    return {
      input_ids:
        options.return_tensor === false ? ids : new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
    };
  }, facts);

/** A model whose logit is the number of tokens that it sees over 1024. */
const model = (
  config: Record<string, unknown>,
  output: (values: number[]) => { type: string; data: ArrayLike<number> },
) =>
  Object.assign(
    async ({ attention_mask: mask }: Record<string, unknown>) => {
      const { data, dims } = mask as Tensor;
      const count = (r: number) => data.subarray(r * dims[1], (r + 1) * dims[1]).reduce((n, v) => n + Number(v), 0);
      return { logits: { ...output(Array.from({ length: dims[0] }, (_, r) => count(r) / 1024)), dims: [dims[0], 1] } };
    },
    { config },
  );
const floats = (values: number[]) => ({ type: 'float32', data: Float32Array.from(values) });

async function seen(facts: Record<string, unknown>, config: Record<string, unknown>, options?: TransformersOptions) {
  const teacher = await transformersTeacher({ tokenizer: tokenizer(facts), model: model(config, floats) }, options);
  const [score] = await teacher.score([{ queryId: 'q', documentId: 'd', query: 'abc', document: 'x'.repeat(5000) }]);
  return score * 1024;
}

test('pairs are cut where tokenizer and config cut, at 512 only where neither says, and never beyond the positions', async () => {
  expect(await seen({ model_max_length: 2048 }, { max_position_embeddings: 4096 })).toBe(2048);
  expect(await seen({ model_max_length: 1e30 }, { max_position_embeddings: 1024 })).toBe(1024);
  expect(
    await seen({ model_max_length: 512 }, { max_position_embeddings: 514, model_type: 'roberta', pad_token_id: 1 }),
  ).toBe(512);
  expect(await seen({}, {})).toBe(512);
  expect(await seen({}, { max_position_embeddings: 128 }, { maxLength: 400 })).toBe(128);
  expect(await seen({ model_max_length: 64 }, { max_position_embeddings: 128 }, { maxLength: 100 })).toBe(100);
});

test.each([
  [
    'bits, as before Node 24',
    (values: number[]) => ({ type: 'float16', data: Uint16Array.from(values, (v) => (v === 9 / 1024 ? 0x2080 : 0)) }),
  ],
  ['numbers, as from Node 24 on', (values: number[]) => ({ type: 'float16', data: values })],
] as const)('half floats as %s', async (_, output) => {
  const teacher = await transformersTeacher({ tokenizer: tokenizer({}), model: model({}, output) });
  // 1 + 3 + 1 + 3 + 1 tokens.
  expect(await teacher.score([{ queryId: 'q', documentId: 'd', query: 'abc', document: 'xyz' }])).toEqual(
    Float32Array.of(9 / 1024),
  );
});
