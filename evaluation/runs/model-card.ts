/** @file The model card of a checkpoint: what it is, what made it, and the figures of the report. */

import { VERSION } from '../../common/version.ts';
import type { Config } from '../../config/config.ts';
import { calledModel } from '../../config/models.ts';
import { kindOf, layersOf, startFolder } from '../../config/student.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type Head, isPlain } from '../../models/modules/head.ts';
import { isEmpty, type Prompts } from '../../models/modules/prompts.ts';
import { namedLayers } from '../../students/kinds/model.ts';
import type { Figures } from '../report/figures.ts';
import { renderMarkdown } from '../report/markdown.ts';

/** Facts of the saved folder that a card states. */
export interface Saved {
  head: Head;
  prompts: Prompts;
  /** Whether PyTorch's weights stand in it too. */
  safetensors: boolean;
  /** What the report is drawn from, once the checkpoint has been measured. */
  figures?: Figures;
}

export function card(config: Config, dataset: Dataset, saved: Saved): string {
  const { figures } = saved;
  const { student, teacher, embedder, losses } = config;
  const start = startFolder(student);
  const kept = layersOf(student);
  const layers = kept ? `, layers ${namedLayers(kept)}` : '';
  const from = start ? ` from \`${basename(start)}\`${layers}` : '';
  const by = [
    teacher && `the teacher \`${basename(calledModel(teacher))}\``,
    embedder && `the embeddings of \`${basename(calledModel(embedder))}\``,
  ].filter(Boolean);
  const searched =
    student.towers === 'query' && embedder
      ? [
          '',
          `This is a query tower: search it against documents embedded by \`${basename(calledModel(embedder))}\`${'documentTokens' in embedder ? `, ${embedder.documentTokens} tokens each` : ''}.`,
        ]
      : [];
  const { card: note } = kindOf(student);
  return [
    '---',
    'library_name: sentence-transformers',
    'tags: [sentence-similarity, feature-extraction, onnx, transformers.js, knowledge-distillation]',
    '---',
    '',
    `# Student distilled on ${dataset.name}`,
    '',
    `A dual-encoder made by onnx-distill ${VERSION} (pipeline ${config.pipeline})${from}${by.length ? ` with ${by.join(' and ')}` : ''}.`,
    `Losses: ${losses.map((l) => `${l.weight} x ${l.kind}`).join(' + ')}. Seed ${config.seed}. What made it, with hashes, is in distill.json.`,
    ...searched,
    ...(note ? ['', note] : []),
    '',
    ...usage(saved),
    ...(figures ? ['', renderMarkdown(figures).trimEnd()] : []),
    '',
  ].join('\n');
}

/** How the folder is loaded in Python, in Node and in the browser; `FOLDER` stands for where it is. */
function usage({ head, prompts, safetensors }: Saved): string[] {
  const quoted = (text: string): string => JSON.stringify(text);
  const argument = safetensors ? '' : ", backend='onnx'";
  const pooling = { mean: 'mean', cls: 'cls', lasttoken: 'last_token' }[head.pooling[0] as string];
  const normalize = head.modules.length > 0;
  const before = (role: 'query' | 'document'): string =>
    isEmpty(prompts[role]) ? 'texts' : `texts.map((t) => ${quoted(prompts[role].before)} + t)`;
  return [
    '## Use',
    '',
    ...(isEmpty(prompts.query) && isEmpty(prompts.document)
      ? []
      : [
          `Queries are encoded after ${quoted(prompts.query.before)}, documents after ${quoted(prompts.document.before)}.`,
          '',
        ]),
    'Python:',
    '',
    '```python',
    'from sentence_transformers import SentenceTransformer',
    '',
    `model = SentenceTransformer('FOLDER'${argument})`,
    'queries, documents = model.encode_query(texts), model.encode_document(texts)',
    'scores = model.similarity(queries, documents)',
    '```',
    '',
    'JavaScript (Node):',
    '',
    '```js',
    "import { Encoder } from 'onnx-distill';",
    '',
    "const encoder = await Encoder.load('FOLDER', { comparable: true });",
    "const queries = await encoder.encode(texts, { role: 'query' }); // [n, encoder.dimensions]",
    "const documents = await encoder.encode(texts, { role: 'document' });",
    '```',
    '',
    'Browser:',
    '',
    ...(isPlain(head) && pooling
      ? [
          '```js',
          "import { pipeline } from '@huggingface/transformers';",
          '',
          "const extract = await pipeline('feature-extraction', 'FOLDER', { dtype: 'fp32' });",
          `const options = { pooling: '${pooling}', normalize: ${normalize} };`,
          `const queries = await extract(${before('query')}, options);`,
          `const documents = await extract(${before('document')}, options);`,
          '```',
        ]
      : [
          'Its vectors need more than one pooling. `distill export FOLDER --dtype fp32` writes a file whose output `sentence_embedding` is the whole vector: read that output with `AutoModel` of @huggingface/transformers.',
        ]),
  ];
}

const basename = (path: string): string => path.split(/[\\/]/).filter(Boolean).at(-1) ?? path;
