/** @file Causal language models as re-rankers: their scores are those of the code of their cards in PyTorch. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph, loadGraph, onnxType } from '../../engine/io/onnx-file.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { generative, generativeKey } from '../../teachers/generative.ts';
import { encodePrompt, promptOf } from '../../teachers/reading/prompts.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

const dir = mkdtempSync(join(tmpdir(), 'generative-'));
afterAll(() => rmSync(dir, { recursive: true }));
const folderOf = (family: string): string => join(import.meta.dirname, '../fixtures/generative', family);

/** What make-generative.py left: pairs, and their scores and token ids by the most tokens that are read. */
const expectedOf = (family: string): Record<string, never[]> & { pairs: [string, string][] } =>
  JSON.parse(readFileSync(join(folderOf(family), 'expected.json'), 'utf8'));
const pairsOf = (family: string): Pair[] =>
  expectedOf(family).pairs.map(([query, document], i) => ({ query, document, queryId: `q${i}`, documentId: `d${i}` }));

async function scores(open: Promise<Teacher>, pairs: readonly Pair[]): Promise<number[]> {
  const teacher = await open;
  try {
    const together = await teacher.score(pairs);
    for (const [i, p] of pairs.entries())
      expect(Math.abs((await teacher.score([p]))[0] - together[i])).toBeLessThan(1e-4);
    return [...together];
  } finally {
    await teacher.dispose();
  }
}

const close = (a: readonly number[], b: readonly number[]): void => {
  expect(a.length).toBe(b.length);
  for (const [i, x] of a.entries()) expect(Math.abs(x - b[i]), `${i}: ${x} and ${b[i]}`).toBeLessThan(1e-4);
};

describe.each([
  ['qwen3', [512, 260]],
  ['gemma', [512, 40]],
] as const)('%s', (family, limits) => {
  test.each(limits)('token ids and scores as its card gives them, with at most %d tokens', async (maxLength) => {
    const folder = folderOf(family);
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    const [tokenizer, prompt] = [await TextTokenizer.load(folder), await promptOf(folder, config, {})];
    const expected = expectedOf(family);
    const begin = prompt.begins ? 2 : undefined;
    const ids = expected.pairs.map(([query, document]) => [
      ...encodePrompt(tokenizer, prompt, { query, document }, { most: maxLength, hard: 1024, begin }).ids,
    ]);
    expect(ids).toEqual(expected[`ids ${maxLength}`]);
    close(await scores(generative(folder, { maxLength }), pairsOf(family)), expected[maxLength]);
  });

  test('it is told from config.json by whoever opens a cross-encoder, and says what was understood', async () => {
    const teacher = await crossEncoder(folderOf(family));
    await teacher.dispose();
    expect(teacher.kind).toBe('generative');
    expect(teacher.key).toBe(await crossEncoderKey(folderOf(family)));
    expect(teacher.key).toBe(await generativeKey(folderOf(family)));
    expect(teacher.facts?.score).toBe(
      family === 'qwen3'
        ? "the logit of 'yes' minus that of 'no' after the prompt of Qwen3-Reranker's card"
        : "the logit of 'Yes' after the prompt of bge-reranker-v2's card",
    );
  });
});

/** A copy of the Qwen3 folder with another graph, or other files. */
async function variant(
  name: string,
  change?: (graph: Graph, logits: Expr) => Expr | undefined,
  files: Record<string, unknown> = {},
): Promise<string> {
  const folder = join(dir, name);
  cpSync(folderOf('qwen3'), folder, { recursive: true });
  const file = join(folder, 'onnx/model.onnx');
  if (change) {
    const graph = await loadGraph(file);
    const [before] = graph.outputs;
    graph.setOutputs();
    const value = change(graph, new Expr(graph, before))?.value ?? before;
    before.name = value === before ? 'logits' : 'before';
    [value.dtype, value.dims] = ['float32', ['batch_size', 'tokens', 'vocabulary']];
    graph.output(value, 'logits');
    value.name = 'logits';
    graph.sort();
    writeFileSync(file, encodeGraph(graph));
  }
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    writeFileSync(join(folder, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

describe('forms of export', () => {
  const pairs = pairsOf('qwen3');
  const right = expectedOf('qwen3')[512] as number[];

  test.each(['float32', 'float16'] as const)('key-value inputs of %s stay empty', async (dtype) => {
    const folder = await variant(`past-${dtype}`, (graph, logits) => {
      let all = logits;
      for (const name of ['past_key_values.0.key', 'past_key_values.0.value']) {
        const past = new Expr(graph, graph.input(name, dtype, ['batch_size', 1, 'past_sequence_length', 8]));
        all = all.add(past.op('Size').op('Cast', [], { to: onnxType('float32') }));
      }
      const branch = new Expr(graph, graph.input('use_cache_branch', 'bool', [1]));
      return all.add(branch.op('Cast', [], { to: onnxType('float32') }));
    });
    close(await scores(generative(folder), pairs), right);
    await expect(promptOf(folder, {}, {})).rejects.toThrow(/whose prompt is not known/);
  });

  test('logits of the last token alone', async () => {
    const folder = await variant('last', (graph, logits) => {
      const keep = new Expr(graph, graph.input('num_logits_to_keep', 'int64', []));
      const from = keep.reshape(1).mul(constant(graph, 'int64', [1], [-1]));
      const [end, axis] = [constant(graph, 'int64', [1], [2 ** 40]), constant(graph, 'int64', [1], [1])];
      return logits.op('Slice', [from, end, axis]);
    });
    close(await scores(generative(folder), pairs), right);
  });

  test('a key-value input that cannot be left empty, and other inputs, are refused by name', async () => {
    const named = await variant('fixed-past', (graph) => {
      graph.input('past_key_values.0.key', 'float32', ['batch', 'heads', 'past', 8]);
      return undefined;
    });
    await expect(generative(named)).rejects.toThrow(
      /has an input 'past_key_values.0.key' of shape \[batch,heads,past,8\], which cannot be left empty; export it without key-value inputs/,
    );
    const pixels = await variant('pixels', (graph) => {
      graph.input('pixel_values', 'float32', ['batch', 3, 'height', 'width']);
      return undefined;
    });
    await expect(generative(pixels)).rejects.toThrow(/needs an input 'pixel_values', which is not understood/);
  });
});

describe('prompts', () => {
  const pairs = pairsOf('qwen3').slice(0, 2);

  test('a template that is given, with an instruction and other words', async () => {
    const card = await promptOf(folderOf('qwen3'), { model_type: 'qwen3' }, {});
    const template = card.pieces.join('');
    const long = pairsOf('qwen3').slice(0, 4);
    // The card's own text as template gives the card's scores, cut to the same tokens.
    for (const maxLength of [512, 260])
      close(
        await scores(generative(folderOf('qwen3'), { template, maxLength, instruction: card.instruction }), long),
        (expectedOf('qwen3')[maxLength] as number[]).slice(0, 4),
      );
    const [other, swapped] = await Promise.all(
      [{ template: 'Q: {query} D: {document} A:' }, { template, yes: 'no', no: 'yes' }].map((o) =>
        scores(generative(folderOf('qwen3'), o), pairs),
      ),
    );
    expect(other).not.toEqual(expectedOf('qwen3')[512].slice(0, 2));
    close(
      swapped,
      (expectedOf('qwen3')[512] as number[]).slice(0, 2).map((x) => -x),
    );
    const keys = [{}, { template }, { instruction: 'Find code' }, { yes: 'no' }, { no: null }, { maxLength: 260 }];
    expect(new Set(await Promise.all(keys.map((o) => generativeKey(folderOf('qwen3'), o)))).size).toBe(keys.length);
  });

  test("a folder's chat template with the roles query and document, and sentence-transformers' LogitScore", async () => {
    const card = await promptOf(folderOf('qwen3'), { model_type: 'qwen3' }, {});
    const chat = card.pieces
      .join('')
      .replace('{instruction}', card.instruction)
      .replace(/\n\n$/, '{{ "\\n\\n" }}') // Jinja drops a newline at the end of a template
      .replace('{query}', '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}')
      .replace(
        '{document}',
        '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}',
      );
    const ids = { true_token_id: 349, false_token_id: 354 };
    const folder = await variant('chat', undefined, {
      'chat_template.jinja': chat,
      'config.json': {
        ...JSON.parse(readFileSync(join(folderOf('qwen3'), 'config.json'), 'utf8')),
        model_type: 'llama',
      },
      'modules.json': [
        { idx: 1, path: '1_LogitScore', type: 'sentence_transformers.cross_encoder.modules.LogitScore' },
      ],
      '1_LogitScore/config.json': ids,
    });
    close(
      await scores(generative(folder), pairs),
      (expectedOf('qwen3')[512] as number[]).slice(0, 2).map((x) => -x),
    );
  });

  test('an unknown family, a template without its places, and an answer of several tokens are refused', async () => {
    const config = JSON.parse(readFileSync(join(folderOf('qwen3'), 'config.json'), 'utf8'));
    const folder = await variant('unknown', undefined, { 'config.json': { ...config, model_type: 'llama' } });
    for (const open of [() => generative(folder), () => crossEncoderKey(folder)])
      await expect(open()).rejects.toThrow(
        /is a causal language model of the family 'llama' whose prompt is not known: expected .*Qwen3-Reranker.*; give the prompt of its card as 'teacher.template', with \{query\} and \{document\}/,
      );
    await expect(generative(folder, { template: 'Is {document} good?' })).rejects.toThrow(/lacks \{query\}/);
    await expect(generative(folderOf('qwen3'), { yes: 'certainly so' })).rejects.toThrow(
      /the answer 'certainly so' is \d+ tokens of the tokenizer: expected one token/,
    );
  });
});
