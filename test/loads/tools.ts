/** @file What tests of other people's loaders share: texts of every kind, and a Python where there is one. */
import { execFileSync } from 'node:child_process';

/** Short, long, empty, non-Latin and odd. */
export const texts: readonly string[] = [
  'how do I install a kernel module',
  'A text editor with syntax highlighting for many programming languages, folding, and a terminal beside it. '.repeat(
    8,
  ),
  '',
  'Привет мир, как дела?',
  '漢字とかな',
  'naïve café — “quoted” text…',
  'the [SEP] token by name, and numbers 1234567890',
  'a',
];

/** A Python that has onnx, onnxruntime and sentence-transformers: $PYTHON, or the system's. */
export const python = [process.env.PYTHON, '/usr/bin/python3'].find((path) => {
  if (!path) return false;
  try {
    execFileSync(path, ['-c', 'import onnx, onnxruntime, sentence_transformers'], { stdio: 'ignore', timeout: 60_000 });
    return true;
  } catch {
    return false;
  }
});

if (!python) console.log('skipped where no Python has onnx, onnxruntime and sentence-transformers: set PYTHON');
