/** @file The model card of a checkpoint: what it is, what made it, and the figures of the report. */

import { VERSION } from '../../common/version.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { renderMarkdown } from '../../evaluation/report/markdown.ts';
import type { Config } from '../config/config.ts';
import { calledModel } from '../config/models.ts';
import { startFolder } from '../config/student.ts';

/** @param figures what the report is drawn from, once the checkpoint has been measured */
export function card(config: Config, dataset: Dataset, figures?: Figures): string {
  const { student, teacher, embedder, losses } = config;
  const start = startFolder(student);
  const layers = 'layers' in student && student.layers ? `, layers ${student.layers.join(', ')}` : '';
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
  const tableNote =
    student.kind === 'static'
      ? [
          '',
          'It is a table of token vectors. A text without a known token is the zero vector: it scores 0 against everything, and loaders that divide by the length without a guard give NaN for it.',
        ]
      : [];
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
    ...tableNote,
    ...(figures ? ['', renderMarkdown(figures).trimEnd()] : []),
    '',
  ].join('\n');
}

const basename = (path: string): string => path.split(/[\\/]/).filter(Boolean).at(-1) ?? path;
