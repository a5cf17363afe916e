/** @file Says where a run cuts texts elsewhere than the model's folder does: defaults of options, which nobody chose, do so too. */
import { InputError } from '../../common/errors.ts';
import type { TextTable } from '../../data/dataset.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { readModelFolder } from '../../models/model-folder.ts';

/** Texts of each kind that are looked at, and units of each. */
const LOOKED_AT = 300;
const UNITS = 20_000;
/** Where a model and its tokenizer name no limit. */
const UNLIMITED = 512;

/** A model that texts are cut for, by the option that names it. */
export interface Cut {
  option: 'student' | 'embedder';
  model: string;
  queryTokens: number;
  documentTokens: number;
}

/** Sentences on the models that are folders and can be opened. */
export async function cutNotes(
  cuts: readonly Cut[],
  data: { queries: TextTable; documents: TextTable },
): Promise<string[]> {
  const notes: string[] = [];
  for (const cut of cuts)
    try {
      for (const note of await notesOf(cut, data)) notes.push(note);
    } catch (error) {
      // What opens the model reports what is wrong with it.
      if (!(error instanceof InputError)) throw error;
    }
  return notes;
}

async function notesOf(
  { option, model, queryTokens, documentTokens }: Cut,
  { queries, documents }: { queries: TextTable; documents: TextTable },
): Promise<string[]> {
  const files = await readModelFolder(model);
  const tokenizer = await TextTokenizer.load(files.folder);
  const limits = [files.maxLength, tokenizer.modelMaxLength].filter((n) => n !== undefined);
  const own = limits.length ? Math.min(...limits) : UNLIMITED;
  const kinds = [
    { what: 'queries', table: queries, limit: queryTokens, key: 'queryTokens' },
    { what: 'documents', table: documents, limit: documentTokens, key: 'documentTokens' },
  ];
  return kinds.flatMap(({ what, table, limit, key }) => {
    const least = Math.min(limit, own);
    if (limit === own) return [];
    const looked = Math.min(LOOKED_AT, table.length);
    let longer = 0;
    for (let i = 0; i < looked; i++) {
      const text = table.text(Math.floor((i * table.length) / looked)).slice(0, UNITS);
      if (tokenizer.encode(text, least + 1).ids.length > least) longer++;
    }
    if (!longer) return [];
    const said = `the ${option}: ${longer} of ${looked} ${what} that were looked at have more than ${least} tokens`;
    return limit < own
      ? [`${said} and are cut there; the model reads ${own} ('${option}.${key}: ${own}')`]
      : [
          `${said}, where its folder cuts them, and are read up to ${limit} ('${option}.${key}: ${own}' cuts as the folder does)`,
        ];
  });
}
