/** @file Opens any model file of a folder as an encoder: an ONNX graph or a static table. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { Encoder } from '../../models/encoder.ts';
import { StaticEncoder } from '../../static/index.ts';

export type FileEncoder = Pick<Encoder, 'dimensions' | 'encode' | 'dispose'>;

/**
 * @param file an .onnx file of a model folder, or a static file in a folder with a tokenizer
 * @throws InputError where it cannot be read or is no encoder
 */
export async function openFileEncoder(file: string): Promise<FileEncoder> {
  if (!file.endsWith('.safetensors')) return Encoder.load(file);
  const encoder = new StaticEncoder(await readFile(file));
  const tokenizer = await TextTokenizer.load(dirname(file));
  const { dimensions } = encoder;
  return {
    dimensions,
    async encode(texts, { maxLength } = {}) {
      const text = Array.isArray(texts)
        ? (i: number) => texts[i]
        : (i: number) => (texts as { text(i: number): string }).text(i);
      const out = new Float32Array(texts.length * dimensions);
      for (let i = 0; i < texts.length; i++)
        out.set(encoder.embed(tokenizer.encode(text(i), maxLength).ids), i * dimensions);
      return out;
    },
    async dispose() {},
  };
}
