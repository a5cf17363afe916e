/** @file What sentence-transformers' files say of a re-ranker: its modules, the prompt of its queries, its case and length. */
import { join, resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { readJson, readJsonValue } from '../../models/model-folder.ts';
import {
  isEmpty,
  type Prompt,
  type PromptOptions,
  parsePrompt,
  promptsOf,
  withPrompt,
} from '../../models/modules/prompts.ts';
import { readTransformerConfig } from '../../models/modules/transformer-config.ts';

export interface PairConfig {
  /** Tokens a pair; undefined where it is not said. */
  maxLength: number | undefined;
  lowerCase: boolean;
  /** The folder's default prompt; empty where it has none. */
  prompt: string;
  /** Around the query and the document. */
  query: Prompt;
  document: Prompt;
  notes: string[];
}

/**
 * As CrossEncoder.predict reads it: the default prompt stands before the query alone, other prompts are used when they are asked for.
 * @param options what is said in place of the folder's prompt
 * @throws InputError where a module is not understood
 */
export async function pairConfig(folder: string, options: PromptOptions = {}): Promise<PairConfig> {
  const { maxLength, lowerCase, task } = await readTransformerConfig(folder);
  if (task !== 'feature-extraction') await checkModules(folder);
  const file = join(folder, 'config_sentence_transformers.json');
  const config = await readJson(file);
  // A dual-encoder's folder may hold the classifier that was trained from it: its prompts are not the classifier's.
  const own = config.model_type === 'CrossEncoder' || task !== 'feature-extraction';
  const { text, named } = promptsOf(own ? config : {}, {}, file);
  const [query, document] = [options.query, options.document].map((t) => parsePrompt(t ?? ''));
  const unused = Object.keys(named).filter((name) => named[name]);
  const given = options.query !== undefined || options.document !== undefined;
  return {
    maxLength,
    lowerCase,
    prompt: text.before,
    query: options.query === undefined ? text : query,
    document,
    notes:
      unused.length && !text.before && !given
        ? [
            `its prompts (${unused.join(', ')}) are not used, as none of them is its default; 'prompts' (of a causal language model 'instruction') uses one`,
          ]
        : [],
  };
}

/** A pair with the prompts around its texts. */
export const prompted = <T extends { query: string; document: string }>(
  { query, document }: Pick<PairConfig, 'query' | 'document'>,
  pair: T,
): Pick<T, 'query' | 'document'> =>
  isEmpty(query) && isEmpty(document)
    ? pair
    : { query: withPrompt(query, pair.query), document: withPrompt(document, pair.document) };

/** @throws InputError that names a module which changes the score */
async function checkModules(folder: string): Promise<void> {
  const listed = await readJsonValue(join(folder, 'modules.json'));
  if (listed === undefined) return;
  if (!Array.isArray(listed))
    throw new InputError({
      code: 'teacher.module',
      subject: `${join(folder, 'modules.json')} is not a list of modules`,
      remedy: 'copy it again from the model',
    });
  const known = (m: { type?: unknown; path?: unknown }, i: number): boolean => {
    const name = String(m?.type).split('.').at(-1);
    return i === 0
      ? name === 'Transformer' && resolve(folder, String(m.path ?? '')) === resolve(folder)
      : name === 'LogitScore';
  };
  const other = listed.find((m, i) => !known(m, i));
  if (other)
    throw new InputError({
      code: 'model.module',
      subject: `${join(folder, 'modules.json')}: the module '${other.type}' in '${other.path}' is not known of a re-ranker`,
      expected: 'a Transformer in the folder itself, and perhaps a LogitScore',
      remedy: 'use a model made of these; a score without the other modules would be another one',
    });
}
