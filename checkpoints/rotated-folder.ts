/** @file The folder of a rotated model: its map as a module or in the graph, written and found again. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { VERSION } from '../common/version.ts';
import { absolute } from '../config/paths.ts';
import { castFloat, type Tensor } from '../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../engine/io/safetensors.ts';
import { opsetWarning, writeCheckpoint } from '../models/checkpoint.ts';
import { describeEncoder, type EncoderDescription } from '../models/encoder.ts';
import { encoderOutput, isPooled } from '../models/encoder-graph.ts';
import { isLinear, tokenWidth, withMap } from '../models/modules/head.ts';
import { torchFamily } from '../students/architectures/index.ts';
import { huggingFaceWeights } from '../students/export/torch-names.ts';
import { mapped } from '../students/student.ts';
import type { RotateOptions } from './rotate-options.ts';

/** The name of the matrix in the graph: by it an earlier rotation is found. */
const ROTATION = 'rotation';
/** How the folder of the module that holds it ends, where it is not in the graph. */
const MODULE = '_Rotation';

/** The rotation behind a model's token vectors. */
export async function rotationOf(model: string, D: number): Promise<Float32Array> {
  const { files, head } = await describeEncoder(model);
  const graph = await loadGraph(files.model);
  const module = head.modules.findLast((m) => m.kind === 'dense' && m.path.endsWith(MODULE));
  const found =
    module?.kind === 'dense'
      ? turned(module.weight)
      : (graph.constants.find((v) => v.name === ROTATION)?.constant as Tensor | undefined);
  if (found?.dims.length !== 2 || found.dims[0] !== D || found.dims[1] !== D)
    throw new InputError({
      code: 'rotate.no-rotation',
      subject: `${model} has no rotation of ${D} dimensions`,
      remedy: "name a folder that 'distill rotate' wrote, of a model with vectors of the same width",
    });
  return castFloat(found, 'float32').data;
}

/** Writes the model with the map behind its vectors. */
export async function writeRotated(
  options: RotateOptions,
  { files, head, prompts, similarity, lowerCase, maxLength }: EncoderDescription,
  rotation: Tensor<'float32'>,
  watch: RunControl,
): Promise<void> {
  const { model, output, data } = options;
  const own = await loadGraph(files.model);
  // Where the family's PyTorch class is known the rotation is a module, which sentence-transformers loads with the class's weights; a
  // matrix in the graph, which every loader has, is the way of the others whose head is linear.
  const named = huggingFaceWeights(own, torchFamily(files.config));
  const weights = 'weights' in named ? encodeSafetensors(named.weights, { format: 'pt' }) : undefined;
  const turns = options.keep === undefined;
  const inGraph = !weights && isLinear(head) && !isPooled(encoderOutput(own, files.model, true));
  const graph = inGraph ? mapped(own, rotation, turns ? ROTATION : 'projection') : own;
  const turnedHead = inGraph ? head : withMap(head, rotation, turns ? MODULE.slice(1) : 'Projection');
  const bytes = encodeGraph(graph);
  const tooNew = opsetWarning(graph.opset);
  if (tooNew) watch.onProgress?.({ stage: 'save', done: 0, unit: 'files', note: `warning: ${tooNew}` });
  await writeCheckpoint(output, {
    model: bytes,
    files: new Map(weights && [['model.safetensors', weights]]),
    tokenizerFrom: files.folder,
    config: files.config,
    head: turnedHead,
    prompts,
    similarity,
    lowerCase,
    tokenWidth: tokenWidth(turnedHead, rotation.dims[1]),
    maxLength,
    provenance: {
      version: VERSION,
      made: 'distill rotate',
      // How the data were read, for the jobs over this model.
      config: { data: options.rows },
      options: {
        ...options,
        rows: undefined,
        output: undefined,
        model: absolute(model),
        data: absolute(data),
        like: options.like && absolute(options.like),
      },
      model: createHash('sha256').update(bytes).digest('hex'),
    },
    card: `# ${basename(model)}, ${turns ? 'rotated' : `${rotation.dims[1]} dimensions`}

${aboutMap(options)}

\`\`\`python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('FOLDER'${weights ? '' : ", backend='onnx'"})
\`\`\`
${inGraph ? '' : `\n${turns ? 'The rotation' : 'The map'} is the module \`${turnedHead.modules.findLast((m) => m.kind === 'dense')?.path}\`. JavaScript loaders do not read modules: \`distill export FOLDER\` writes a file whose output \`sentence_embedding\` has it.\n`}`,
  });
}

/** What the card says about the vectors. */
function aboutMap({ model, data, select, keep }: RotateOptions): string {
  const [from, on] = [`\`${basename(model)}\``, `\`${basename(data)}\``];
  if (keep === undefined)
    return `The vectors of ${from} times an orthogonal matrix, learned on ${on} so that their prefixes rank
documents as whole vectors do. Whole vectors have the dot products that they had. Cut queries and documents to the same width
and scale both to unit length again.`;
  const how =
    select === 'projection' ? 'projected by a matrix that was learned' : 'of which Sequential Attention chose some';
  return `The vectors of ${from} in ${keep} dimensions, ${how} on ${on} so that they rank documents as whole vectors do.`;
}

/** A matrix with rows and columns exchanged. */
function turned({ dims: [rows, columns], data }: Tensor<'float32'>): Tensor<'float32'> {
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let k = 0; k < columns; k++) out[k * rows + i] = data[i * columns + k];
  return { dtype: 'float32', dims: [columns, rows], data: out };
}
