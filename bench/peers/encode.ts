/**
 * @file Texts per second over documents of data/debian, compared with transformers.js and sentence-transformers.
 *
 *   npm run bench -- encode [texts] [model]      2,000 documents and minilm-l6 by default; 0 for all documents
 *
 * Texts are truncated at 192 tokens. transformers.js gets batches of 32 in file order, its usual use;
 * sentence-transformers sorts by length itself. PROVIDER=cuda: on a card, in fp16 and in float32, and sentence-transformers in fp16.
 */
import { join } from 'node:path';
import { openBeir } from '../../data/beir.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import type { TeacherDType } from '../../teachers/teacher.ts';
import { compare, inDTypes, type Measured, PROVIDER, python, round, SHARED } from './peers.ts';
import { peakMegabytes } from './step.ts';

const MAX_LENGTH = 192;

async function documents(count: number): Promise<string[]> {
  const { documents } = await openBeir(join(SHARED, 'data/debian'));
  return Array.from({ length: Math.min(count || documents.length, documents.length) }, (_, i) => documents.text(i));
}

async function measure(engine: string, name: string, count: number, dtype: TeacherDType): Promise<Measured> {
  const texts = await documents(count);
  const folder = join(SHARED, 'models', name);
  const encode = engine === 'transformers.js' ? await transformersJs(folder) : await own(folder, dtype);
  await encode(texts.slice(0, 64));
  const started = performance.now();
  await encode(texts);
  const seconds = (performance.now() - started) / 1000;
  return {
    engine,
    model: name,
    dtype,
    texts: texts.length,
    ms_a_text: round((1000 * seconds) / texts.length, 3),
    texts_a_second: round(texts.length / seconds, 1),
    peak_rss_mb: peakMegabytes(),
  };
}

async function own(folder: string, dtype: TeacherDType): Promise<(texts: string[]) => Promise<unknown>> {
  const options = { documentTokens: MAX_LENGTH, dtype, session: { provider: PROVIDER } };
  const encoder = await dualEncoder(folder, options);
  return (texts) => encoder.embed(texts, 'document');
}

async function transformersJs(folder: string): Promise<(texts: string[]) => Promise<unknown>> {
  const { AutoModel, AutoTokenizer, env, mean_pooling } = await import('@huggingface/transformers');
  Object.assign(env, { allowRemoteModels: false, localModelPath: '' });
  const tokenizer = await AutoTokenizer.from_pretrained(folder);
  const model = await AutoModel.from_pretrained(folder, { dtype: 'fp32', device: 'cpu' });
  return async (texts) => {
    const all: unknown[] = [];
    for (let i = 0; i < texts.length; i += 32) {
      const options = { padding: true, truncation: true, max_length: MAX_LENGTH };
      const inputs = tokenizer(texts.slice(i, i + 32), options);
      const { last_hidden_state } = await model(inputs);
      all.push(mean_pooling(last_hidden_state, inputs.attention_mask).normalize(2, -1));
    }
    return all;
  };
}

if (import.meta.filename === process.argv[1]) {
  const args = process.argv.slice(2);
  if (args[0] === 'ours')
    console.log(JSON.stringify(await measure('onnx-distill', args[2], Number(args[1]), args[3] as TeacherDType)));
  else if (args[0] === 'theirs')
    console.log(JSON.stringify(await measure('transformers.js', args[2], Number(args[1]), 'fp32')));
  else {
    const [count = 2000, model = 'minilm-l6'] = [args[0] === undefined ? undefined : Number(args[0]), args[1]];
    const all = count || 27_912;
    const own = inDTypes(import.meta.filename, all, model);
    const theirs = { ...own[0], name: 'transformers.js', args: [import.meta.filename, 'theirs', String(all), model] };
    const python3 = python('sentence-transformers', 'encode.py', model, all);
    await compare(PROVIDER === 'cuda' ? [...own, python3] : [...own, theirs, python3], ['ms_a_text']);
  }
}
