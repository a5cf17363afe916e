/** @file How fast models are here: a few texts of the data, timed. */
import { setTimeout } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { localModel } from '../../config/models.ts';
import { layersOf, startFolder, trainedEncoder } from '../../config/student.ts';
import { type Dataset, textsAt } from '../../data/dataset.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import { tensor } from '../../engine/graph/tensor.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { chosenLayers, findLayers } from '../../engine/passes/layers.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { Session } from '../../engine/runtime/session.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { hiddenSize, readModelFolder } from '../../models/model-folder.ts';
import { openModel } from '../../teachers/open-model.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';
import { AdamWHost } from '../../training/updates/adamw-host.ts';

/** Seconds of timing a model, at most but for its first items, and items that say enough. */
const SECONDS = 2;
const ITEMS = 128;
/** Items at first: they load what is loaded at the first call, and say how many more fit. */
const FIRST = 4;

/** Seconds of an item; undefined where it cannot be timed, with the reason. */
export type Rate = { seconds: number } | { seconds?: undefined; why: string };

/** Times work on items of the data, drawn with a seed. @param work on so many items, from a place on */
async function timed(items: number, work: (from: number, count: number) => Promise<unknown>): Promise<Rate> {
  const first = Math.min(FIRST, items);
  if (!first) return { why: 'there is nothing to time it on' };
  await work(0, Math.min(2, first));
  let started = performance.now();
  await work(0, first);
  const rough = (performance.now() - started) / 1000 / first;
  const more = Math.min(ITEMS, items, Math.floor(SECONDS / rough));
  if (more <= first) return { seconds: rough };
  // Others of this process get their turn.
  await setTimeout(0);
  started = performance.now();
  await work(0, more);
  return { seconds: (performance.now() - started) / 1000 / more };
}

const drawn = (n: number, name: string, table: { length: number }): number[] => {
  const random = Random.of(0, name);
  return Array.from({ length: Math.min(n, table.length) }, () => random.integer(table.length));
};

/** Seconds of a pair of the teacher; of a document where it is a dual-encoder. */
export async function teacherRate(config: Config, dataset: Dataset): Promise<Rate> {
  const { teacher: spec } = config;
  if (!spec || spec.kind === 'scores') return { why: 'its scores are given' };
  if (spec.kind === 'http') return { why: 'a service is not asked to be timed' };
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  const queries = drawn(ITEMS, 'timed queries', dataset.queries);
  const pairs = documents.map((d, i): Pair => {
    const q = queries[i % queries.length];
    return {
      queryId: dataset.queries.ids[q],
      documentId: dataset.documents.ids[d],
      query: dataset.queries.text(q),
      document: dataset.documents.text(d),
    };
  });
  const model = await openModel(spec, await computeOn(config.train));
  const { embed } = model;
  try {
    return await timed(queries.length ? pairs.length : 0, (from, count) => {
      const some = pairs.slice(from, from + count);
      // A dual-encoder embeds each text once: the rate is that of a document.
      if (spec.kind === 'dual-encoder' && embed)
        return embed(
          some.map((p) => p.document),
          'document',
        );
      return model.score(some);
    });
  } finally {
    await model.dispose();
  }
}

/** Seconds of a document of the embedder. */
export async function embedderRate(config: Config, dataset: Dataset): Promise<Rate> {
  const { embedder: spec } = config;
  if (!spec || !localModel(spec) || !('queryTokens' in spec)) return { why: 'a service is not asked to be timed' };
  const model: Teacher = await openModel({ ...spec, kind: 'dual-encoder' }, await computeOn(config.train));
  const { embed } = model;
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  try {
    if (!embed) return { why: 'it does not embed' };
    return await timed(documents.length, (from, count) =>
      embed(
        documents.slice(from, from + count).map((d) => dataset.documents.text(d)),
        'document',
      ),
    );
  } finally {
    await model.dispose();
  }
}

/** Seconds of a query and of a document of the student, as it is before training. */
export async function studentRates(config: Config, dataset: Dataset): Promise<{ query: Rate; document: Rate }> {
  const folder = startFolder(config.student);
  if (config.student.kind !== 'model' || !folder) {
    const why =
      trainedEncoder(config.student) === undefined
        ? 'the student is yet to be made'
        : `a student of the kind '${config.student.kind}' is not timed`;
    return { query: { why }, document: { why } };
  }
  const { pooling, normalize, prompts, queryTokens, documentTokens } = config.student;
  const session = await computeOn(config.train);
  const encoder = await Encoder.load(folder, { pooling, normalize, prompts, session, comparable: true });
  const queries = textsAt(dataset, drawn(ITEMS, 'timed queries', dataset.queries));
  const documents = drawn(ITEMS, 'timed documents', dataset.documents);
  // Fewer layers take their share of the time.
  const share = await depthShare(folder, layersOf(config.student));
  const cut = (rate: Rate): Rate => (rate.seconds === undefined ? rate : { seconds: share * rate.seconds });
  try {
    return {
      query: cut(
        await timed(queries.length, (from, length) =>
          encoder.encode({ length, text: (i) => queries.text(from + i) }, { maxLength: queryTokens, role: 'query' }),
        ),
      ),
      document: cut(
        await timed(documents.length, (from, length) =>
          encoder.encode(
            { length, text: (i) => dataset.documents.text(documents[from + i]) },
            { maxLength: documentTokens, role: 'document' },
          ),
        ),
      ),
    };
  } finally {
    await encoder.dispose();
  }
}

/** Which part of an encoder's layers is kept. */
async function depthShare(folder: string, layers: readonly number[] | undefined): Promise<number> {
  if (!layers) return 1;
  const found = findLayers(await loadGraph((await readModelFolder(folder)).model));
  return chosenLayers(layers, found.length).length / found.length;
}

/** Width of the embedder's vectors, where its config says it. */
async function embedderWidth({ embedder }: Config): Promise<number | undefined> {
  const folder = localModel(embedder);
  return folder === undefined ? undefined : hiddenSize((await readModelFolder(folder)).config);
}

/** Seconds of comparing so many vectors of the embedder's width with so many documents, forward. */
export async function productRate(config: Config, texts: number, documents: number): Promise<Rate> {
  const width = await embedderWidth(config);
  if (!width) return { why: 'the width of its vectors is not known' };
  const graph = new Graph(14);
  const inputs = [
    graph.input('texts', 'float32', [texts, width]),
    graph.input('documents', 'float32', [width, documents]),
  ];
  const [a, b] = inputs.map((v) => new Expr(graph, v));
  graph.setOutputs(a.matmul(b).softmax().value);
  const session = await Session.load(graph, await computeOn(config.train));
  const feeds = {
    texts: tensor('float32', [texts, width], new Float32Array(texts * width)),
    documents: tensor('float32', [width, documents], new Float32Array(width * documents)),
  };
  try {
    return await timed(ITEMS, async (_, count) => {
      for (let i = 0; i < count; i++) await session.run(feeds);
    });
  } finally {
    await session.release();
  }
}

/** Seconds of an update of a table with a row a token of the embedder. */
export async function tableRate(config: Config): Promise<Rate> {
  const folder = localModel(config.embedder);
  const width = await embedderWidth(config);
  if (!folder || !width) return { why: 'the width of its vectors is not known' };
  const rows = (await TextTokenizer.load(folder)).vocabularySize;
  const size = rows * width;
  const table = {
    name: 'table',
    dims: [rows, width],
    table: true,
    data: new Float32Array(size),
    gradient: new Float32Array(size),
  };
  const optimizer = new AdamWHost([table]);
  return timed(ITEMS, async (_, count) => {
    for (let i = 0; i < count; i++) optimizer.step(1e-6);
  });
}
