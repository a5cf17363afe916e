/** @file Prompts: text added around a query or a document before it is encoded. */
import { InputError } from '../../common/errors.ts';

/** Templates by the role of a text: `{text}` marks the text's place; without it the text comes last. */
export interface PromptOptions {
  query?: string;
  document?: string;
}

/** Whose prompt a text is given: a query's, a document's, or the folder's default for texts that are neither. */
export type Role = 'query' | 'document' | 'text';

/** Text before and after the input. */
export interface Prompt {
  before: string;
  after: string;
}

export interface Prompts {
  query: Prompt;
  document: Prompt;
  text: Prompt;
  /** All prompts of the folder by name, and the one that is its default: kept where the folder is written again. */
  named: Readonly<Record<string, string>>;
  defaultName: string | null;
}

const PLACE = '{text}';
const none: Prompt = { before: '', after: '' };
export const noPrompts: Prompts = { query: none, document: none, text: none, named: {}, defaultName: null };

/** @throws InputError where the place of the text is marked twice */
export function parsePrompt(template: string): Prompt {
  const parts = template.split(PLACE);
  if (parts.length > 2)
    throw new InputError({
      code: 'prompts.place',
      subject: `the prompt '${template}' marks the place of the text more than once`,
      expected: `${PLACE} at most once`,
      remedy: `leave one ${PLACE}`,
    });
  return { before: parts[0], after: parts[1] ?? '' };
}

export const withPrompt = ({ before, after }: Prompt, text: string): string =>
  before || after ? before + text + after : text;

export const isEmpty = ({ before, after }: Prompt): boolean => !before && !after;

/**
 * The prompts of a folder, chosen as sentence-transformers' encode_query and encode_document do: `query` for queries, the
 * first of `document`, `passage` and `corpus` for documents, the default for encode.
 *
 * @param config config_sentence_transformers.json
 * @param options what a config of this toolkit says instead
 * @throws InputError where the default is not among the prompts
 */
export function promptsOf(config: Record<string, unknown>, options: PromptOptions = {}, file = 'the config'): Prompts {
  const stated = (config.prompts ?? {}) as Record<string, unknown>;
  const named = Object.fromEntries(
    Object.entries(stated).filter((e): e is [string, string] => typeof e[1] === 'string'),
  );
  const defaultName = (config.default_prompt_name as string | null | undefined) ?? null;
  if (defaultName !== null && !Object.hasOwn(named, defaultName) && !['query', 'document'].includes(defaultName))
    throw new InputError({
      code: 'model.prompts',
      subject: `${file}: the default prompt '${defaultName}' is not among the prompts`,
      expected: Object.keys(named).join(', ') || 'prompts',
      remedy: 'add it, or correct default_prompt_name',
    });
  // A folder's prompt is a prefix: braces in it are text.
  const prefix = (name: string | undefined): Prompt => ({ before: (name && named[name]) || '', after: '' });
  const forDocuments = ['document', 'passage', 'corpus'].find((name) => Object.hasOwn(named, name));
  return {
    query: options.query === undefined ? prefix('query') : parsePrompt(options.query),
    document: options.document === undefined ? prefix(forDocuments) : parsePrompt(options.document),
    text: prefix(defaultName ?? undefined),
    named,
    defaultName,
  };
}

/**
 * The prompts of config_sentence_transformers.json; undefined where there are none. The file cannot hold a part after the text.
 */
export function promptsConfig(prompts: Prompts): Record<string, unknown> | undefined {
  const { query, document, named, defaultName } = prompts;
  if (!Object.keys(named).length && isEmpty(query) && isEmpty(document)) return undefined;
  return {
    prompts: { ...named, query: query.before, document: document.before },
    default_prompt_name: defaultName,
  };
}

/** Of the content of a prompt pair: empty where there is none, so that keys of models without prompts stay as they were. */
export const promptKey = (...prompts: readonly Prompt[]): string =>
  prompts.every(isEmpty) ? '' : JSON.stringify(prompts.map((p) => [p.before, p.after]));

/** Families whose cards ask for prompts that their folders do not state, by a part of the model's name. */
const asked: readonly { name: RegExp; family: string; query: string; document: string }[] = [
  { name: /(^|[^a-z])(multilingual-)?e5([^a-z0-9]|$)/i, family: 'E5', query: 'query: ', document: 'passage: ' },
  {
    name: /nomic-embed|modernbert-embed/i,
    family: 'nomic-embed',
    query: 'search_query: ',
    document: 'search_document: ',
  },
  {
    name: /bge-(small|base|large)-en/i,
    family: 'BGE',
    query: 'Represent this sentence for searching relevant passages: ',
    document: '',
  },
  {
    name: /arctic-embed-(xs|s|m|l)(?!.*v2)/i,
    family: 'arctic-embed',
    query: 'Represent this sentence for searching relevant passages: ',
    document: '',
  },
  {
    name: /mxbai-embed/i,
    family: 'mxbai-embed',
    query: 'Represent this sentence for searching relevant passages: ',
    document: '',
  },
];

/**
 * Sentences on what is guessed or left out of a model's prompts.
 * @param names names of the model: its folder, its `_name_or_path`
 */
export function promptNotes(prompts: Prompts, given: PromptOptions, names: readonly string[]): string[] {
  const notes: string[] = [];
  const { query, document, named, defaultName } = prompts;
  const [label] = names;
  const told = given.query !== undefined || given.document !== undefined;
  const family = asked.find((f) => names.some((n) => f.name.test(n)));
  if (family && !told && isEmpty(query) && isEmpty(document))
    notes.push(
      `${label} looks like a model of the family ${family.family}, whose card asks for the prompts ${JSON.stringify({ query: family.query, document: family.document })}; its folder states none and none is used: set prompts if that is right`,
    );
  if (!told && defaultName && !['query', 'document'].includes(defaultName) && named[defaultName])
    notes.push(
      `the default prompt '${defaultName}' of ${label} is put before neither queries nor documents, as in sentence-transformers' encode_query and encode_document; set prompts to use it`,
    );
  if ([query, document].some((p) => p.after))
    notes.push(
      `config_sentence_transformers.json has no place for the part of a prompt of ${label} that follows the text`,
    );
  return notes;
}
