/** @file What a run holds in memory, and the limit of a batch that follows from it. */
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { batchMemory, type Load, memorySentence } from '../training/memory-budget.ts';
import type { Config } from './config.ts';
import { toWeighting } from './methods.ts';
import { localModel } from './models.ts';
import { kindOf, trainedEncoder } from './student.ts';

/** What a run holds. */
export function loadOf({ teacher, embedder, student, candidates, weighting }: Config, dataset: Dataset): Load {
  const { keep } = student;
  const kept = keep && (keep.model ?? (student.towers === 'query' ? undefined : trainedEncoder(student)));
  const serving = [localModel(teacher), localModel(embedder), kept].filter((m) => m !== undefined);
  return {
    serving: [...new Set(serving)],
    students: toWeighting(weighting).needs.includes('peer') ? 2 : 1,
    ...trainedModel(student),
    dataset,
    tables:
      Number(Boolean(embedder)) +
      1 +
      Number(candidates.source === 'student' || (candidates.source === 'hybrid' && !embedder)),
  };
}

/** What is trained: a folder, or so many weights that are yet to be made. */
function trainedModel(student: Config['student']): Pick<Load, 'training' | 'fresh'> {
  const training = trainedEncoder(student);
  const fresh = kindOf(student).parameters?.(student);
  return training !== undefined ? { training } : fresh !== undefined ? { fresh } : {};
}

/** A watch with the memory of a batch, where the config limits it. */
export async function withMemory(
  config: Config,
  dataset: Dataset,
  watch: RunControl,
  note: (text: string) => void,
): Promise<RunControl> {
  if (config.memory === undefined) return watch;
  const memory = await batchMemory(config.memory, loadOf(config, dataset));
  note(memorySentence(config.memory, memory, dataset.documents.length));
  return { ...watch, memory };
}
