/** @file A folder's chat template as the prompt of a pair: one message for the query and one for the document, as sentence-transformers renders it. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Template } from '@huggingface/jinja';
import { InputError } from '../../common/errors.ts';
import type { TextTokenizer } from '../../data/tokenizer.ts';
import { readJson } from '../../models/model-folder.ts';
import { type ChatOptions, readTransformerConfig } from '../../models/modules/transformer-config.ts';

export interface ChatTemplate {
  render(query: string, document: string): string;
  /** Of everything but the two texts that a rendering depends on. */
  key: string;
}

type Pair = { query: string; document: string };

/**
 * A folder's chat template; undefined where it has none, or one for conversations in a folder that is not sentence-transformers'.
 * @param instruction content of a message of the role system, before the others
 * @throws InputError where sentence-transformers' files ask for the template and it does not show both texts
 */
export async function chatTemplate(folder: string, instruction: string | undefined): Promise<ChatTemplate | undefined> {
  const config = await readJson(join(folder, 'tokenizer_config.json'));
  const { chat, messages } = await readTransformerConfig(folder);
  const file = join(folder, 'chat_template.jinja');
  const source = existsSync(file) ? await readFile(file, 'utf8') : sourceOf(config.chat_template);
  const refuse = (subject: string, cause?: unknown): InputError =>
    new InputError({
      code: 'teacher.prompt',
      subject: `the chat template of ${folder} ${subject}`,
      expected: 'a template that shows messages of the roles query and document',
      remedy: "give the prompt of its card as 'teacher.template', with {query} and {document}",
      cause,
    });
  if (source === undefined) {
    if (messages) throw refuse('is missing');
    return undefined;
  }
  let template: Template;
  const render = ({ query, document }: Pair, system = instruction): string =>
    template.render({ ...variablesOf(config), ...chat, messages: messagesOf(query, document, system, chat) });
  try {
    const { Template } = await import('@huggingface/jinja');
    template = new Template(source);
    template.parsed = withFirst(template.parsed) as Template['parsed'];
    const shown = render({ query: 'first 1', document: 'second 2' });
    if (!shown.includes('first 1') || !shown.includes('second 2')) throw new Error('it does not show both texts');
  } catch (cause) {
    // A template for conversations does not show these roles, or refuses them.
    if (!messages) return undefined;
    throw refuse(`cannot be used (${(cause as Error).message})`, cause);
  }
  const sample = { query: 'q', document: 'd' };
  if (instruction !== undefined && render(sample) === render(sample, `${instruction}.`))
    throw refuse('does not show an instruction, which is given');
  return {
    render: (query, document) => render({ query, document }),
    key: JSON.stringify([source, chat, instruction, variablesOf(config)]),
  };
}

/** The template of the name 'reranker' or 'default' where there are several. */
function sourceOf(stated: unknown): string | undefined {
  const named = (name: string): unknown => (stated as { name?: string }[]).find((t) => t?.name === name);
  const found = Array.isArray(stated) ? (named('reranker') ?? named('default') ?? stated[0]) : stated;
  const source = Array.isArray(stated) ? (found as { template?: unknown } | undefined)?.template : found;
  return typeof source === 'string' ? source : undefined;
}

function messagesOf(query: string, document: string, system: string | undefined, { format }: ChatOptions) {
  const message = (role: string, text: string) => ({
    role,
    content: format === 'structured' ? [{ type: 'text', text }] : text,
  });
  const both = [message('query', query), message('document', document)];
  return system === undefined ? both : [message('system', system), ...both];
}

/** Names of the special tokens, as transformers gives them to a template. */
function variablesOf(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const found: Record<string, string> = { bos_token: '', eos_token: '' };
  for (const name of ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'].map((n) => `${n}_token`)) {
    const value = (config[name] as { content?: unknown } | null | undefined)?.content ?? config[name];
    if (typeof value === 'string') found[name] = value;
  }
  return found;
}

/**
 * The filters `first` and `last` as indices: the library's own fail for an empty list, which Jinja takes for undefined, so that
 * `| first | default(...)` gives the default.
 */
function withFirst(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withFirst);
  if (node instanceof Map || !node || typeof node !== 'object') return node;
  const entries = Object.entries(node).map(([key, value]) => [key, withFirst(value)]);
  const copy = Object.assign(Object.create(Object.getPrototypeOf(node)), Object.fromEntries(entries));
  if (copy.type !== 'FilterExpression' || copy.filter?.type !== 'Identifier') return copy;
  const index = { first: 0, last: -1 }[copy.filter.value as string];
  if (index === undefined) return copy;
  return { type: 'MemberExpression', object: copy.operand, property: { type: 'IntegerLiteral', value: index } };
}

/**
 * A pair's prompt as tokens. One that is too long is cut as any text, and the tokens that follow the texts in every prompt are put
 * back at its end: the model answers after them.
 * @param most tokens in all
 * @source sentence_transformers 5.7, base/modules/transformer.py: _restore_chat_template_suffix
 */
export function encodeChat(tokenizer: TextTokenizer, template: ChatTemplate, pair: Pair, most: number): number[] {
  const text = template.render(pair.query, pair.document);
  const whole = tokenizer.plain(text, most + 1);
  if (whole.length <= most) return whole;
  const ids = tokenizer.plain(text, most);
  const [first, second] = ['0', '1 2 3 4'].map((filler) => tokenizer.plain(template.render(filler, filler)));
  let kept = 0;
  while (kept < Math.min(first.length, second.length) && first.at(-1 - kept) === second.at(-1 - kept)) kept++;
  if (kept === Math.min(first.length, second.length)) return ids;
  const tail = kept ? first.slice(-Math.min(kept, most)) : [];
  return [...ids.slice(0, most - tail.length), ...tail];
}
