/** @file The losses of a step: from the embeddings of all texts to the total, and its gradient with respect to them. */
import { InputError } from '../../common/errors.ts';
import { differentiate } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Value } from '../../engine/graph/ir.ts';
import { identity, sizeOf, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { inputsFrom, type LayerInput, layerInputs, lossInputs, type RequestedInput } from '../../losses/inputs.ts';
import { type Loss, type LossInputs, reduce } from '../../losses/loss.ts';

/** A loss with its weight in the total. */
export interface WeightedLoss {
  loss: Loss;
  weight: number;
  /** The loss of texts that have only a teacher's embedding, treated as queries; its mean is added. */
  extra?: Loss;
}

/** Texts whose embeddings stay near given ones, in the student's own space. */
export interface KeptTexts {
  /** The loss of each text; it reads `queries` and `teacherQueries`. */
  loss: Loss;
  weight: number;
  /** Columns of the given embeddings. */
  width: number;
  /** [width, width] a constant map that embeddings go through first. */
  through?: Tensor<'float32'>;
}

export interface LossGraphOptions {
  losses: readonly WeightedLoss[];
  /** Whether embeddings are scaled to unit length. */
  normalize: boolean;
  /** Width of the documents' embeddings if they are given and not encoded (frozen documents). */
  frozenDocuments?: number;
  /** Width of the teacher's embeddings, where a loss matches them. */
  teacherWidth?: number;
  /** Width of a cross-encoder's vectors of the two texts of a pair, where a loss matches them. */
  pairWidth?: number;
  /** Further arrays in the batches; losses for which they are optional then use them. */
  given?: readonly RequestedInput[];
  /** Whether batches have scores of a lexical channel, which are added to the student's in losses over scores. */
  lexical?: boolean;
  /** Whether batches have a group of texts with only a teacher's embedding (unlabelled queries, spans of documents). */
  extraTexts?: boolean;
  /** Batches have a group of such texts; the mean of their loss is the last term. */
  kept?: KeptTexts;
}

export interface LossGraph {
  graph: Graph;
  /** [T, E D + O] embeddings of all texts of the step and what is observed of the layers, an input. */
  texts: Value;
  /** [T, E D + O] the gradient of the total with respect to them. */
  upstream: Value;
  total: Value;
  terms: readonly Value[];
  /** A learned map from the student's space to the teacher's, where widths differ or a cross-encoder's vectors are matched. */
  projection?: { value: Value; tensor: Tensor<'float32'>; gradient: Value };
}

/**
 * @param width D, of the student's embeddings
 * @param observed columns of what is observed of the layers, behind the embeddings
 * @param parts E, embeddings of a text, one an exit: every loss is its mean over them. Documents are then frozen.
 */
export async function lossGraph(
  options: LossGraphOptions,
  width: number,
  opset: number,
  parts = 1,
  observed: readonly { name: LayerInput; columns: number }[] = [],
): Promise<LossGraph> {
  const { teacherWidth, frozenDocuments } = options;
  const ramped = options.losses.find(({ loss }) => loss.ramp);
  if (ramped)
    throw new InputError({
      code: 'loss.ramp',
      subject: `the weight of the loss '${ramped.loss.name}' grows over the training, which a step of dense vectors does not do`,
      remedy: "use it with a sparse student, or give the loss 'ramp: 0'",
    });
  const graph = new Graph(opset);
  const given = (name: string, dtype: 'float32' | 'int64', dims: (number | string)[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));
  const vectors = parts * width;
  const rows = given('texts', 'float32', ['texts', vectors + observed.reduce((n, o) => n + o.columns, 0)]);
  const texts = observed.length ? rows.slice(0, vectors, 1) : rows;
  let at = vectors;
  const ofLayers = Object.fromEntries(
    observed.map(({ name, columns }) => {
      at += columns;
      return [name, rows.slice(at - columns, at, 1)];
    }),
  );
  const queriesAt = given('queries_at', 'int64', ['queries']);
  const documents = frozenDocuments
    ? given('documents', 'float32', ['documents', frozenDocuments])
    : withWidth(texts.gather(given('documents_at', 'int64', ['documents'])), width);
  // The columns of one exit of rows of all.
  const columns = (e: Expr, part: number): Expr => (parts === 1 ? e : e.slice(part * width, (part + 1) * width, 1));
  // Cross-encoder targets always get a learned projection.
  const unrelated = options.pairWidth !== undefined && !frozenDocuments;
  const start = teacherWidth && (teacherWidth !== width || unrelated) ? identity(width, teacherWidth) : undefined;
  const projection = start && given('projection', 'float32', [...start.dims]);
  // Over frozen documents the projection stays at serving time: queries are compared in the documents' space.
  const served = (e: Expr): Expr => {
    if (!frozenDocuments || !projection) return e;
    const moved = e.matmul(projection);
    return options.normalize ? moved.l2Normalize() : moved;
  };
  const servedWidth = frozenDocuments && projection ? teacherWidth : width;
  const candidates = given('candidates', 'int64', ['queries', 'candidates']);
  const fixed: Record<string, number> = { teacherWidth: teacherWidth ?? 1, pairWidth: options.pairWidth ?? 1 };
  const arrays = Object.fromEntries(
    [...inputsFrom('batch'), ...(options.given ?? [])].map((name) => [
      name,
      given(
        name,
        'float32',
        lossInputs[name].dims.map((d) => fixed[d] ?? d),
      ),
    ]),
  );
  // Frozen documents are the teacher's vectors: they are fed once.
  if (frozenDocuments && frozenDocuments === teacherWidth) arrays.teacherDocuments = documents;
  const asked = texts.gather(queriesAt);
  if (options.lexical && options.losses.every(({ loss }) => matchesVectors(loss)))
    throw new InputError({
      code: 'train.lexical',
      subject: "no loss reads the scores that 'train.lexical' adds to: those that are given compare vectors",
      remedy: 'add kl or info-nce, or remove it',
    });
  const lexical = options.lexical ? given('lexical', 'float32', ['queries', 'documents']) : undefined;
  /** Inputs with vectors as they are, and, for losses over scores, with those whose products have the lexical scores added. */
  const inputsOf = (part: number): { plain: LossInputs; scored: LossInputs } => {
    const searching = withWidth(served(columns(asked, part)), servedWidth);
    const over = (queries: Expr, documents: Expr): LossInputs =>
      ({
        ...arrays,
        ...ofLayers,
        candidates,
        student: queries.matmul(documents.transpose(1, 0)).gatherElements(candidates, 1), // [B, N]
        queries,
        documents,
        ...(projection && !frozenDocuments ? { projection } : {}),
      }) as unknown as LossInputs;
    const plain = over(searching, documents);
    return { plain, scored: lexical ? over(...withScores(searching, documents, lexical)) : plain };
  };
  const weights = given('weights', 'float32', ['queries']);
  const extra =
    options.extraTexts && options.losses.some((l) => l.extra)
      ? {
          texts: texts.gather(given('extra_at', 'int64', ['extra'])),
          teacherQueries: given('teacherExtra', 'float32', ['extra', teacherWidth ?? 1]),
        }
      : undefined;
  const keeps = options.kept && {
    ...options.kept,
    texts: texts.gather(given('kept_at', 'int64', ['kept'])),
    teacherQueries: given('teacherKept', 'float32', ['kept', options.kept.width]),
  };
  if (keeps && servedWidth !== keeps.width)
    throw new InputError({
      code: 'keep.width',
      subject: `the encoder of 'student.keep' gives ${keeps.width} columns and the student's embeddings have ${servedWidth}`,
      remedy: "name an encoder of the same width under 'student.keep.model', or remove 'student.keep'",
    });
  const termsOf = (part: number): Expr[] => {
    const { plain, scored } = inputsOf(part);
    const extraInputs = extra && {
      ...plain,
      queries: withWidth(served(columns(extra.texts, part)), servedWidth),
      teacherQueries: extra.teacherQueries,
    };
    const own = options.losses.map(({ loss, extra }) => {
      const term = reduce(loss.perQuery(matchesVectors(loss) ? plain : scored), weights);
      return extra && extraInputs ? term.add(extra.perQuery(extraInputs).mean([0])) : term;
    });
    if (!keeps) return own;
    const vectors = served(columns(keeps.texts, part));
    const { through } = keeps;
    const mapped = through ? vectors.matmul(new Expr(graph, graph.constant(through, 'kept_through'))) : vectors;
    const queries = withWidth(mapped, servedWidth);
    const { teacherQueries } = keeps;
    return [...own, keeps.loss.perQuery({ queries, teacherQueries } as unknown as LossInputs).mean([0])];
  };
  const [first, ...others] = Array.from({ length: parts }, (_, part) => termsOf(part));
  const terms = first.map((own, i) =>
    others.length ? others.reduce((sum, part) => sum.add(part[i]), own).mul(1 / parts) : own,
  );
  if (!terms.length)
    throw new InputError({
      code: 'train.no-loss',
      subject: 'no loss is given',
      remedy: 'name at least one under losses',
    });
  const factors = [...options.losses, ...(keeps ? [keeps] : [])];
  const total = terms.map((t, i) => t.mul(factors[i].weight)).reduce((a, b) => a.add(b)).value;
  graph.setOutputs(total, ...terms.map((t) => t.value));
  graph.prune();
  graph.dropUnusedInputs(rows.value);

  const shapes = await probe(graph, [sampleFeeds(graph, 0), sampleFeeds(graph, 1)]);
  const wanted = [rows.value, ...(projection?.value.readers.size ? [projection.value] : [])];
  const gradients = differentiate(graph, total, wanted, shapes);
  const gradientOf = (v: Value): Value => {
    const g = gradients.get(v);
    if (g && 'dense' in g) return g.dense;
    throw new InputError({
      code: 'train.no-gradient',
      subject: `no loss depends on ${v === rows.value ? "the student's embeddings" : 'the projection'}`,
      remedy: 'name a loss that reads scores or embeddings of the student',
    });
  };
  const upstream = gradientOf(rows.value);
  graph.output(upstream);
  let learned: LossGraph['projection'];
  if (start && projection?.value.readers.size) {
    learned = { value: projection.value, tensor: start, gradient: gradientOf(projection.value) };
    graph.output(learned.gradient);
  }
  graph.prune();
  return { graph, texts: rows.value, upstream, total, terms: terms.map((t) => t.value), projection: learned };
}

/** Whether a loss compares vectors themselves, and not scores. */
const matchesVectors = ({ needs }: Loss): boolean =>
  needs.some((name) => name.startsWith('teacherQ') || name.startsWith('teacherD') || name.startsWith('pair'));

/**
 * Vectors of further components, so that the product of query b and document m is larger by scores[b, m]: a query has a 1 in a
 * component of its own, a document its scores of all queries.
 * @param scores [B, M]
 */
function withScores(queries: Expr, documents: Expr, scores: Expr): [Expr, Expr] {
  const graph = queries.graph;
  const byDocument = scores.transpose(1, 0);
  const own = new Expr(graph, graph.add('EyeLike', [scores.matmul(byDocument).value]));
  return [queries.concat([own], 1), documents.concat([byDocument], 1)];
}

/** What some losses read of the student's layers. */
export const observedBy = (losses: readonly WeightedLoss[]): LayerInput[] =>
  layerInputs.filter((name) => losses.some(({ loss }) => loss.needs.includes(name)));

/** Sets the width of vectors, for losses that truncate them. */
function withWidth(vectors: Expr, width: number | undefined): Expr {
  vectors.value.dims = width === undefined ? undefined : ['rows', width];
  return vectors;
}

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(graph: Graph, k: 0 | 1): Record<string, Tensor> {
  const size: Record<string, number> = {
    queries: [5, 7][k],
    documents: [13, 17][k],
    texts: [31, 37][k],
    candidates: [3, 4][k],
    extra: [6, 10][k],
    kept: [11, 12][k],
    draws: [8, 9][k],
  };
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = (v.dims ?? []).map((d) => (typeof d === 'number' ? d : size[d]));
      const n = sizeOf(dims);
      // Positions of 0 are valid everywhere; embeddings and arrays of 1 keep the losses finite.
      return [v.name, tensor(v.dtype ?? 'float32', dims, new Float32Array(n).fill(v.dtype === 'int64' ? 0 : 1))];
    }),
  );
}
