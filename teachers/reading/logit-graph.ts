/** @file A cross-encoder's graph with its one logit as the only output, for what changes its layers. */
import { InputError } from '../../common/errors.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { halfToFloat32 } from '../../engine/passes/normalize.ts';
import type { FolderReading } from './describe.ts';
import type { ScoreOutput } from './output.ts';

/** In float32. @throws InputError where the model's output is not `logits`, or ends in an activation */
export async function logitGraph({ files, output }: FolderReading & { output: ScoreOutput }): Promise<Graph> {
  if (output.activation || output.probability || output.port.name !== 'logits')
    throw new InputError({
      code: 'teacher.logits',
      subject: `${files.model} ends in '${output.port.name}'${output.activation ? `, a ${output.activation}` : ''}`,
      expected: "one logit a pair as the output 'logits'",
      remedy: 'export the model with its logits',
    });
  const model = await loadGraph(files.model);
  halfToFloat32(model);
  model.setOutputs(...model.outputs.filter((v) => v.name === 'logits'));
  model.prune();
  return model;
}
