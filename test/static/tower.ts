/** @file A static tower with random rows, for tests. */

import { TextTokenizer } from '../../data/tokenizer.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { Random } from '../../math/random.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';

/** A static tower: last_hidden_state = Gather(table, input_ids), rows of special tokens 0. */
export async function staticTower(to: string, tokenizerFrom: string, width: number): Promise<void> {
  const tokenizer = await TextTokenizer.load(tokenizerFrom);
  const random = Random.of(3, 'table');
  const V = tokenizer.vocabularySize;
  const data = Float32Array.from({ length: V * width }, () => random.normal());
  for (const special of ['[PAD]', '[CLS]', '[SEP]', '[MASK]', '[UNK]'])
    data.fill(0, (tokenizer.idOf(special) ?? 0) * width, ((tokenizer.idOf(special) ?? 0) + 1) * width);
  const graph = new Graph(14);
  const ids = new Expr(graph, graph.input('input_ids', 'int64', ['batch', 'sequence']));
  graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  const table = new Expr(graph, graph.constant({ dtype: 'float32', dims: [V, width], data }, 'table'));
  graph.output(table.gather(ids).value, 'last_hidden_state');
  await writeCheckpoint(to, {
    model: encodeGraph(graph),
    tokenizerFrom,
    config: { model_type: 'bert', hidden_size: width, vocab_size: V },
    head: { pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] },
    similarity: 'cosine',
    tokenWidth: width,
    maxLength: 40,
    provenance: {},
    card: '# static\n',
  });
}
