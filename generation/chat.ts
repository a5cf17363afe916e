/** @file Queries written by a language model behind an OpenAI-compatible chat endpoint. */
import { setMaxListeners } from 'node:events';
import { InputError } from '../common/errors.ts';
import { canonicalJson, hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import { ReplyCache } from './reply-cache.ts';

export interface ChatOptions extends RunControl {
  /** The endpoint's base, e.g. http://127.0.0.1:11434/v1. */
  url: string;
  model: string;
  /** Queries a document. */
  each?: number;
  /** The prompt. {document} and {count} are filled in, {examples} where examples are given. */
  prompt?: string;
  /** Queries of users, shown in the prompt so that new ones resemble them. */
  examples?: readonly string[];
  temperature?: number;
  /** The budget at which requests stop; earlier replies are kept. */
  budget?: { calls?: number; tokens?: number };
  /** Concurrent requests. */
  concurrency?: number;
  /** Timeout of a request in milliseconds, and the number of retries. */
  timeout?: number;
  retries?: number;
  /** File that caches replies by content. */
  cache: string;
}

export interface ChatQueries {
  /** Queries with the position of the document that each was written for, by document. */
  queries: { document: number; text: string }[];
  /** Documents that gave at least one query. */
  documents: number;
  calls: number;
  cached: number;
  tokens: number;
  /** Notes for the user: the budget was spent, replies without a query. */
  notes: string[];
}

export const DEFAULT_PROMPT = `Write {count} short search queries that a person would type and that the following text answers. They differ from each other in wording and in what they ask for. They do not copy the text's sentences. Write one query a line and nothing else.
{examples}
Text:
{document}`;

/** Characters of a document in the prompt, and of a query that is kept. */
const SHOWN = 6000;
const LONGEST_QUERY = 300;

/** Environment variable with the endpoint's API key. Local servers need none. */
export const KEY_VARIABLE = 'OPENAI_API_KEY';

/**
 * Requests queries for each document in order until all are done or the budget is spent. Replies are cached as they arrive: a
 * repeated call requests only what is missing.
 * @throws InputError where the client is not installed, the endpoint refuses (key, model, address) or does not answer
 */
export async function chatQueries(
  documents: { readonly length: number; text(i: number): string },
  options: ChatOptions,
): Promise<ChatQueries> {
  const { each = 3, prompt = DEFAULT_PROMPT, examples = [], temperature = 0.7, budget = {}, concurrency = 4 } = options;
  if (!prompt.includes('{document}'))
    throw new InputError({
      code: 'generate.prompt',
      subject: 'the prompt has no {document}',
      remedy: 'write {document} in place of the text, {count} in place of the number of queries',
    });
  const client = await openClient(options);
  const cache = await ReplyCache.open(options.cache);
  const shown = examples.length ? `Queries that people ask look like these:\n${examples.join('\n')}\n` : '';
  const result: ChatQueries = { queries: [], documents: 0, calls: 0, cached: 0, tokens: 0, notes: [] };
  const replies = new Array<string | undefined>(documents.length);
  let spent = '';
  let next = 0;
  let done = 0;
  const stop = new AbortController();
  // The client adds one listener per request.
  setMaxListeners(0, stop.signal);
  const onAbort = () => stop.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });

  const worker = async (): Promise<void> => {
    while (next < documents.length && !stop.signal.aborted) {
      const i = next++;
      const content = filled(prompt, {
        count: String(each),
        examples: shown,
        document: documents.text(i).slice(0, SHOWN),
      });
      const key = hashParts(canonicalJson({ model: options.model, url: options.url, temperature, each }), content);
      const known = cache.get(key);
      if (known) {
        replies[i] = known.text;
        result.cached++;
      } else if (!spent) {
        if (result.calls >= (budget.calls ?? Number.POSITIVE_INFINITY)) spent = `${budget.calls} calls`;
        else if (result.tokens >= (budget.tokens ?? Number.POSITIVE_INFINITY)) spent = `${budget.tokens} tokens`;
        if (!spent) {
          result.calls++;
          const reply = await ask(client, options, content, temperature, stop.signal);
          result.tokens += reply.tokens;
          replies[i] = reply.text;
          await cache.put(key, reply);
        }
      }
      done++;
      options.onProgress?.({ stage: 'write queries', done, total: documents.length, unit: 'documents' });
    }
  };
  try {
    await Promise.all(
      Array.from({ length: Math.max(1, Math.min(concurrency, documents.length)) }, () =>
        worker().catch((error) => {
          // The first failure aborts the others, so that no request continues in the background.
          if (!stop.signal.aborted) stop.abort(error);
          throw error;
        }),
      ),
    );
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
  }
  options.signal?.throwIfAborted();

  const seen = new Set<string>();
  let without = 0;
  for (const [document, reply] of replies.entries()) {
    if (reply === undefined) continue;
    const lines = queriesOf(reply).slice(0, each);
    if (!lines.length) without++;
    else result.documents++;
    for (const text of lines) {
      if (seen.has(text)) continue;
      seen.add(text);
      result.queries.push({ document, text });
    }
  }
  if (spent)
    result.notes.push(
      `the budget of ${spent} is spent: ${result.documents} of ${documents.length} documents have queries; raise generate.budget and run again, the replies so far are kept`,
    );
  if (without) result.notes.push(`${without} replies held no query`);
  return result;
}

/** Characters of a token and of a written query, about: for estimates. */
const TOKEN = 4;
const QUERY = 60;

/** Tokens of a call, about: the prompt with a document of so many characters, and the queries of the reply. */
export function tokensOfCall(
  characters: number,
  { each = 3, prompt = DEFAULT_PROMPT, examples = [] }: Pick<ChatOptions, 'each' | 'prompt' | 'examples'>,
): number {
  const shown = examples.reduce((n, text) => n + text.length + 1, 0);
  return (prompt.length + shown + Math.min(characters, SHOWN) + each * QUERY) / TOKEN;
}

/** Queries of a reply: its lines without numbers, bullets and quotation marks; a preamble that ends in a colon is left out. */
export function queriesOf(reply: string): string[] {
  return reply
    .replace(/<think>[\s\S]*?<\/think>/g, '')
    .split('\n')
    .map((line) =>
      line
        .trim()
        .replace(/^(?:[-*•]\s+|\(?\d{1,3}[.):]\s*)/, '')
        .replace(/^["'“„«`]+|["'”“»`]+$/g, '')
        .trim(),
    )
    .filter((line) => line && !line.endsWith(':') && line.length <= LONGEST_QUERY && /[\p{L}\p{N}]/u.test(line));
}

/** Filled in one pass, so that {count} inside a document is left as it is. */
const filled = (prompt: string, values: Record<string, string>): string =>
  prompt.replace(/\{(count|examples|document)\}/g, (_, name: string) => values[name]);

type Client = InstanceType<typeof import('openai').default>;

async function openClient({ url, timeout = 60_000, retries = 5 }: ChatOptions): Promise<Client> {
  let module: typeof import('openai');
  try {
    module = await import('openai');
  } catch (cause) {
    throw new InputError({
      code: 'generate.missing',
      subject: `the package openai cannot be loaded (${(cause as Error).message.split('\n')[0]})`,
      remedy: 'install it with npm install openai, or make queries without a language model (generate.kind: mixed)',
      cause,
    });
  }
  const key = process.env[KEY_VARIABLE];
  return new module.default({ baseURL: url, apiKey: key || 'none', timeout, maxRetries: retries, logLevel: 'off' });
}

async function ask(
  client: Client,
  { model, url }: ChatOptions,
  content: string,
  temperature: number,
  signal: AbortSignal,
) {
  try {
    const reply = await client.chat.completions.create(
      { model, temperature, messages: [{ role: 'user', content }] },
      { signal },
    );
    const text = reply?.choices?.[0]?.message?.content;
    if (typeof text !== 'string')
      throw new InputError({
        code: 'generate.reply',
        subject: `${url} answered without choices[0].message.content`,
        remedy: 'give the address of an OpenAI-compatible chat endpoint, e.g. http://127.0.0.1:11434/v1',
      });
    return { text, tokens: Number(reply.usage?.total_tokens) || 0 };
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    if (signal.aborted) throw signal.reason ?? cause;
    const { status, message } = cause as { status?: number; message: string };
    throw new InputError({
      code: 'generate.endpoint',
      subject: `${url} did not write queries (${status ?? 'no answer'}: ${String(message).split('\n')[0].slice(0, 200)})`,
      remedy:
        status === 401 || status === 403
          ? `set ${KEY_VARIABLE} to a key of this endpoint`
          : status === 404
            ? 'check generate.url (it ends in /v1 as a rule) and generate.model'
            : 'check that it runs and run the same command again, the replies so far are kept',
      cause,
    });
  }
}
