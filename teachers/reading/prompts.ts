/**
 * @file The prompt of a causal language model for a pair: prompts known from model cards, a folder's chat template, or a given
 * one.
 */
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import type { TextTokenizer, Tokens } from '../../data/tokenizer.ts';
import { readJson, readJsonValue } from '../../models/model-folder.ts';
import { readTransformerConfig } from '../../models/modules/transformer-config.ts';
import { type ChatTemplate, chatTemplate, encodeChat } from './chat-template.ts';
import { pairConfig } from './pair-config.ts';

export interface PromptOptions {
  /** The whole prompt, with `{query}`, `{document}` and perhaps `{instruction}`. */
  template?: string;
  /** The model's answers for a relevant document and for another; null: the logit of yes alone. */
  yes?: string;
  no?: string | null;
  /** What the query asks for, in the prompts that say so. */
  instruction?: string;
}

export interface Prompt {
  /** Where it is from, for messages. */
  from: string;
  /** Texts that are tokenised one by one, with `{query}`, `{document}` and `{instruction}`. */
  pieces: readonly string[];
  /** What stands before the query, where the tokenizer joins the two texts itself, in place of pieces. */
  before?: string;
  /** The chat template that makes the prompt, in place of pieces. */
  chat?: ChatTemplate;
  /** Whether the pieces are tokenised as one text where that fits. */
  joined?: boolean;
  /** Whether the token that begins a text comes first. */
  begins?: boolean;
  /** Most tokens that the card reads; `maxLength` in its place where that is given. */
  usual?: number;
  /** Whether what follows the document counts among them. */
  tailCounts?: boolean;
  /** Part of those tokens that the query may take. */
  queryShare?: number;
  yes: string | number;
  no: string | number | undefined;
  instruction: string;
}

const WEB = 'Given a web search query, retrieve relevant passages that answer the query';

/**
 * Prompts of model cards, by the model_type of config.json that their models have.
 * @source cards of Qwen/Qwen3-Reranker-0.6B, BAAI/bge-reranker-v2-gemma and BAAI/bge-reranker-v2-minicpm-layerwise
 */
export const cards: Readonly<Record<string, Omit<Prompt, 'instruction'> & { models: readonly string[] }>> = {
  'Qwen3-Reranker': {
    models: ['qwen3'],
    from: "Qwen3-Reranker's card",
    pieces: [
      '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
      '<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}',
      '<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n',
    ],
    usual: 8192,
    tailCounts: true,
    yes: 'yes',
    no: 'no',
  },
  'bge-reranker-v2-gemma and bge-reranker-v2-minicpm': {
    models: ['gemma', 'gemma2', 'minicpm'],
    from: "bge-reranker-v2's card",
    pieces: [
      'A: {query}',
      '\n',
      'B: {document}',
      '\n',
      "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a prediction of either 'Yes' or 'No'.",
    ],
    begins: true,
    usual: 1024,
    tailCounts: false,
    queryShare: 3 / 4,
    yes: 'Yes',
    no: undefined,
  },
};

type Config = Readonly<Record<string, unknown>>;

/** Whether config.json's architecture is a causal language model. */
export const isGenerative = ({ architectures }: Config): boolean =>
  Array.isArray(architectures) && /ForCausalLM$/.test(String(architectures[0]));

/**
 * The prompt of a folder: the given template, a chat template with the roles query and document, or the card of its family.
 * @throws InputError where none of them is there, or a template lacks the query or the document
 */
export async function promptOf(folder: string, config: Config, options: PromptOptions): Promise<Prompt> {
  const found = (await ownPrompt(folder, options)) ?? cardPrompt(config);
  if (!found)
    throw new InputError({
      code: 'teacher.prompt',
      subject: `${folder} is a causal language model of the family '${config.model_type ?? 'unknown'}' whose prompt is not known`,
      expected: `a chat template with the roles query and document, or one of the kinds ${Object.keys(cards).join(', ')}`,
      remedy: "give the prompt of its card as 'teacher.template', with {query} and {document}",
    });
  if (
    options.instruction !== undefined &&
    !found.chat &&
    found.before === undefined &&
    !found.pieces.some((p) => p.includes('{instruction}'))
  )
    throw new InputError({
      code: 'teacher.prompt',
      subject: `'teacher.instruction' is given, and ${found.from} has no place for it`,
      remedy: "remove it, or put {instruction} into 'teacher.template'",
    });
  const told = await toldTokens(folder);
  return {
    ...found,
    yes: options.yes ?? told?.yes ?? found.yes,
    no: options.no === null ? undefined : (options.no ?? (told && options.yes === undefined ? told.no : found.no)),
    instruction: options.instruction ?? WEB,
  };
}

const cardPrompt = (config: Config): Omit<Prompt, 'instruction'> | undefined =>
  Object.values(cards).find(({ models }) => models.includes(String(config.model_type)));

async function ownPrompt(folder: string, options: PromptOptions): Promise<Omit<Prompt, 'instruction'> | undefined> {
  const { template } = options;
  const answers = { yes: 'yes', no: 'no', tailCounts: true };
  if (template === undefined) {
    const instruction = options.instruction ?? ((await pairConfig(folder)).prompt || undefined);
    const chat = await chatTemplate(folder, instruction);
    if (chat) return { ...answers, from: 'the chat template of the folder', pieces: [], chat };
    const { task } = await readTransformerConfig(folder);
    const before = instruction ?? '';
    return task === 'text-generation' ? { ...answers, from: 'sentence-transformers', pieces: [], before } : undefined;
  }
  const missing = ['{query}', '{document}'].filter((part) => !template.includes(part));
  if (missing.length)
    throw new InputError({
      code: 'teacher.prompt',
      subject: `the template of ${folder} lacks ${missing.join(' and ')}`,
      remedy: "put {query} and {document} in place of the two texts in 'teacher.template'",
    });
  const end = template.lastIndexOf('{document}') + '{document}'.length;
  const pieces = [template.slice(0, end), template.slice(end)];
  return { ...answers, from: 'the template given', pieces, joined: true };
}

/** What sentence-transformers' module LogitScore of a folder says. */
async function toldTokens(folder: string): Promise<{ yes: number; no: number | undefined } | undefined> {
  const modules = await readJsonValue(join(folder, 'modules.json'));
  const own = Array.isArray(modules) ? modules.find((m) => String(m?.type).endsWith('.LogitScore')) : undefined;
  if (!own) return undefined;
  const file = join(folder, String(own.path), 'config.json');
  const { true_token_id: yes, false_token_id: no, module_input_name: input = 'causal_logits' } = await readJson(file);
  if (input !== 'causal_logits')
    throw new InputError({
      code: 'model.module',
      subject: `${file}: this LogitScore reads '${input}'`,
      expected: 'causal_logits',
      remedy: 'use a model whose LogitScore follows its Transformer',
    });
  return typeof yes === 'number' ? { yes, no: typeof no === 'number' ? no : undefined } : undefined;
}

/**
 * A pair's prompt as tokens. What is too long is cut at the end of the document, then of the query; what follows stays.
 * @param most tokens in all, and `hard` what the model has positions for
 */
export function encodePrompt(
  tokenizer: TextTokenizer,
  prompt: Prompt,
  pair: { query: string; document: string },
  { most, hard, begin }: { most: number; hard: number; begin: number | undefined },
): Tokens {
  if (prompt.chat) return plainTokens(encodeChat(tokenizer, prompt.chat, pair, Math.min(most, hard)));
  if (prompt.before !== undefined)
    return tokenizer.encodePair(prompt.before + pair.query, pair.document, { maxLength: Math.min(most, hard) });
  const fill = (piece: string): string =>
    piece.replace(/\{(query|document|instruction)\}/g, (_, name: string) =>
      name === 'instruction' ? prompt.instruction : pair[name as 'query' | 'document'],
    );
  const texts = prompt.pieces.map(fill);
  if (prompt.joined) {
    const whole = tokenizer.plain(texts.join(''), most + 1);
    if (whole.length <= most) return plainTokens(whole);
  }
  const parts = texts.map((text) => tokenizer.plain(text));
  const last = prompt.pieces.findIndex((p) => p.includes('{document}'));
  const query = prompt.pieces.findIndex((p) => p.includes('{query}'));
  if (prompt.queryShare && query !== last) cut(parts, query, Math.floor(prompt.queryShare * most));
  const start = begin === undefined ? [] : [begin];
  const tail = parts.slice(last + 1).reduce((n, p) => n + p.length, 0);
  const room = Math.min(hard, most + (prompt.tailCounts ? 0 : tail)) - start.length;
  for (const i of [last, query]) {
    const excess = parts.reduce((n, p) => n + p.length, 0) - room;
    if (excess > 0) cut(parts, i, Math.max(0, parts[i].length - excess));
  }
  return plainTokens([...start, ...parts.flat()].slice(0, hard));
}

function cut(parts: number[][], i: number, length: number): void {
  parts[i] = parts[i].slice(0, length);
}

const plainTokens = (ids: readonly number[]): Tokens => ({
  ids: Int32Array.from(ids),
  typeIds: new Int32Array(ids.length),
});
