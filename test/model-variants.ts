/** @file Copies of a small model folder whose graph or ONNX file is changed, for tests of readers. */
import { closeSync, cpSync, ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type GraphProto,
  TensorProto_DataLocation as Location,
  type ModelProto,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
} from 'onnx-buf';
import type { Graph } from '../engine/graph/ir.ts';
import { encodeGraph, loadGraph } from '../engine/io/onnx-file.ts';

/** Texts that a small model is made from and that it reads: of several lengths, one empty. */
export const sampleTexts = [
  'open file list',
  'network packet editor',
  'text',
  '',
  'list process open file packet text editor',
];

/** A small model's shape: quick to make and to run. */
export const smallShape = { hidden: 16, layers: 1, heads: 2, maxLength: 24, vocabulary: 80 };

/** Copies a model folder to `folder` and changes its graph. */
export async function copyWithGraph(from: string, folder: string, change: (graph: Graph) => void): Promise<string> {
  cpSync(from, folder, { recursive: true });
  const graph = await loadGraph(join(from, 'onnx/model.onnx'));
  change(graph);
  graph.sort();
  writeFileSync(join(folder, 'onnx/model.onnx'), encodeGraph(graph));
  return folder;
}

/** Changes the ONNX file of a model folder as protobuf: for what graphs cannot express. */
export function changeFile(folder: string, how: (model: ModelProto, graph: GraphProto) => void): void {
  const file = join(folder, 'onnx/model.onnx');
  const model = fromBinary(ModelProtoSchema, readFileSync(file));
  how(model, model.graph as GraphProto);
  writeFileSync(file, toBinary(ModelProtoSchema, model));
}

/** Replaces a tensor's data by a reference to an external file. */
export function storeExternally(tensor: TensorProto, entries: Readonly<Record<string, string>>): void {
  tensor.rawData = new Uint8Array(0);
  tensor.dataLocation = Location.EXTERNAL;
  tensor.externalData = Object.entries(entries).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value }),
  );
}

/** Extends the word table of a model folder to 2 GiB and a row, in a sparse file: only what was there takes space. */
export function enlargeTable(folder: string): void {
  changeFile(folder, (_, graph) => {
    const table = graph.initializer.find((t) => t.name.endsWith('word_embeddings.weight'));
    if (!table) throw new Error('no table');
    const bytesOfRow = 4 * smallShape.hidden;
    const rows = 2 ** 31 / bytesOfRow + 1;
    const data = openSync(join(folder, 'onnx/weights.bin'), 'w');
    writeFileSync(data, table.rawData);
    ftruncateSync(data, rows * bytesOfRow);
    closeSync(data);
    table.dims = [BigInt(rows), BigInt(smallShape.hidden)];
    storeExternally(table, { location: 'weights.bin', offset: '0', length: String(rows * bytesOfRow) });
  });
}
