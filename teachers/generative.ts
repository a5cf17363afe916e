/** @file A causal language model as re-ranker: it answers yes or no to whether a document answers a query. */
import { FaultError, InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import { floatsOf, type Tensor } from '../engine/graph/tensor.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { readJson } from '../models/model-folder.ts';
import { limitSays, readFolder } from './reading/describe.ts';
import { scoreOutput, scoreSource } from './reading/output.ts';
import { encodePrompt, type PromptOptions, promptOf } from './reading/prompts.ts';
import { bytesAToken, type Runner, runTokens, teller } from './reading/run.ts';
import type { Pair, Teacher } from './teacher.ts';

/** Prompt, limits and output of a causal language model that scores pairs, and where it computes. */
export interface GenerativeOptions extends PromptOptions {
  name?: string;
  /** Tokens of a prompt in all; by default what the tokenizer, the config and the prompt's card allow. */
  maxLength?: number;
  /** Which output holds the logits; `logits` by default. */
  output?: string;
  /** Padded tokens a batch. */
  batchTokens?: number;
  session?: SessionOptions;
}

/** Pairs read at a time. */
const CHUNK = 1024;
/** Bytes of logits a batch: [batch, tokens, vocabulary] in float32 is the largest that such a model gives. */
const LOGITS_BYTES = 2 ** 28;

async function describe(folder: string, options: GenerativeOptions) {
  const { maxLength } = options;
  const read = await readFolder(folder, { maxLength }, { generates: true });
  const { files, model, tokenizer, hash } = read;
  const prompt = await promptOf(files.folder, files.config, options);
  const most = Math.min(read.limits.maxLength, maxLength ?? prompt.usual ?? Number.POSITIVE_INFINITY);
  const begin = prompt.begins ? await beginning(files.folder, files.config, tokenizer) : undefined;
  const tokens = {
    yes: tokenOf(prompt.yes, tokenizer),
    no: prompt.no === undefined ? undefined : tokenOf(prompt.no, tokenizer),
  };
  const output = scoreOutput(model, options.output);
  const { pieces, joined, instruction, chat, before } = prompt;
  const said = chat ? [chat.key] : before === undefined ? [pieces, joined, instruction] : [{ before }];
  const reading = JSON.stringify([...said, begin, tokens, most, output.port.name]);
  const key = hashParts('generative', hash, tokenizer.hash, reading);
  const notes = [
    ...read.notes,
    ...(prompt.joined || chat || before !== undefined
      ? []
      : [`the prompt is that of ${prompt.from}, by its model_type`]),
  ];
  return { ...read, prompt, tokens, begin, most, hard: read.hard, output, key, notes };
}

/** The key of the teacher that `generative` opens. */
export const generativeKey = async (folder: string, options: GenerativeOptions = {}): Promise<string> =>
  (await describe(folder, options)).key;

/**
 * Opens the folder of a causal language model that was trained to answer yes or no: Qwen3-Reranker, bge-reranker-v2-gemma and
 * their kind. The score is the logit of yes less the logit of no at the prompt's last token, or the logit of yes where the prompt
 * has no no. Texts are padded on the right, which a causal model does not see; key-value inputs are empty.
 *
 * @throws InputError where files are missing, the prompt is not known, or yes or no is not one token
 * @source sentence_transformers 5.7, cross_encoder/modules/logit_score.py
 */
export async function generative(folder: string, options: GenerativeOptions = {}): Promise<Teacher> {
  const read = await describe(folder, options);
  const { files, model, tokenizer, plan, prompt, tokens, output, hard } = read;
  const file = files.model;
  const vocabulary = Math.max(model.table?.rows ?? 0, Number(files.config.vocab_size) || 0, tokenizer.vocabularySize);
  const forward = bytesAToken(model, files.config);
  const runner: Runner = {
    file,
    session: await Session.open(await scoreSource(model, output), options.session, file),
    plan,
    output: output.port.name,
    batchTokens: Math.min(
      options.batchTokens ?? batchTokens(options.session),
      Math.max(1, Math.floor(LOGITS_BYTES / (4 * vocabulary))),
    ),
    maxLength: hard,
    bytesAToken: (length) => forward(length) + 4 * vocabulary,
  };
  const encode = (pair: Pick<Pair, 'query' | 'document'>) => encodePrompt(tokenizer, prompt, pair, { ...read });

  async function scoreChunk(
    pairs: readonly Pick<Pair, 'query' | 'document'>[],
    watch: RunControl,
  ): Promise<Float32Array> {
    const scores = new Float32Array(pairs.length);
    const prompts = pairs.map(encode);
    await runTokens(runner, prompts, watch, (logits, at, length) => {
      for (const [r, i] of at.entries())
        scores[i] = answer(logits, r, { last: prompts[i].ids.length - 1, length }, tokens, file);
    });
    return scores;
  }

  try {
    await scoreChunk([{ query: 'a', document: 'b' }], {});
  } catch (cause) {
    await runner.session.release();
    if (!(cause instanceof FaultError)) throw cause;
    throw new InputError({ code: cause.code, subject: cause.message, cause });
  }
  const name = options.name ?? folder;
  const notes = read.notes;
  const tell = teller(notes.map((note) => `${name}: ${note}`));
  const quoted = (t: string | number): string => (typeof t === 'number' ? `token ${t}` : `'${t}'`);
  const score =
    prompt.no === undefined
      ? `the logit of ${quoted(prompt.yes)} after the prompt of ${prompt.from}`
      : `the logit of ${quoted(prompt.yes)} minus that of ${quoted(prompt.no)} after the prompt of ${prompt.from}`;
  return {
    name,
    kind: 'generative',
    key: read.key,
    tokenizer: tokenizer.hash,
    facts: { file, inputs: plan.says, score, limit: limitSays({ ...read.limits, maxLength: read.most }, plan), notes },
    async score(pairs, watch: RunControl = {}) {
      tell(watch);
      const scores = new Float32Array(pairs.length);
      for (let at = 0; at < pairs.length; at += CHUNK) {
        scores.set(await scoreChunk(pairs.slice(at, at + CHUNK), watch), at);
        const done = Math.min(pairs.length, at + CHUNK);
        watch.onProgress?.({ stage: 'score', done, total: pairs.length, unit: 'pairs' });
      }
      return scores;
    },
    dispose: () => runner.session.release(),
  };
}

/**
 * A row's score: of logits [rows, tokens, vocabulary], of those of the last token alone, [rows, 1, vocabulary] or [rows,
 * vocabulary], or of a score for each token, [rows, tokens].
 */
function answer(
  { dims, data, dtype }: Tensor,
  row: number,
  { last, length }: { last: number; length: number },
  { yes, no }: { yes: number; no: number | undefined },
  file: string,
): number {
  const value = (i: number): number => floatsOf({ dtype, dims: [1], data: data.subarray(i, i + 1) } as Tensor)[0];
  if (dims.length === 2 && dims[1] === length) return value(row * length + last);
  const [, tokens, vocabulary] = dims.length === 2 ? [dims[0], 1, dims[1]] : dims;
  const most = Math.max(yes, no ?? 0);
  if ((dims.length !== 2 && dims.length !== 3) || (tokens !== 1 && tokens !== length) || vocabulary <= most)
    throw new InputError({
      code: 'teacher.output',
      subject: `${file} gives logits of shape [${dims.join(', ')}] for texts of ${length} tokens`,
      expected: `[texts, tokens, vocabulary] with more than ${most} words`,
      remedy: 'export it for text-generation, or give the folder its own tokenizer.json',
    });
  const start = (row * tokens + (tokens === 1 ? 0 : last)) * vocabulary;
  return no === undefined ? value(start + yes) : value(start + yes) - value(start + no);
}

/** @throws InputError where a word is not one token */
function tokenOf(word: string | number, tokenizer: TextTokenizer): number {
  if (typeof word === 'number') return word;
  const ids = tokenizer.plain(word);
  const found = ids.length === 1 ? ids[0] : tokenizer.idOf(word);
  if (found !== undefined) return found;
  throw new InputError({
    code: 'teacher.prompt',
    subject: `the answer '${word}' is ${ids.length} tokens of the tokenizer`,
    expected: 'one token',
    remedy: "name the words that the model was trained to answer with as 'teacher.yes' and 'teacher.no'",
  });
}

/** The token that begins a text, by config.json or tokenizer_config.json. */
async function beginning(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  tokenizer: TextTokenizer,
): Promise<number> {
  const { bos_token: stated } = await readJson(`${folder}/tokenizer_config.json`);
  const token = (stated as { content?: string } | null)?.content ?? stated;
  const id = typeof token === 'string' ? tokenizer.idOf(token) : config.bos_token_id;
  if (typeof id === 'number') return id;
  throw new InputError({
    code: 'teacher.prompt',
    subject: `${folder} does not say which token begins a text`,
    expected: 'bos_token in tokenizer_config.json',
    remedy: 'save its tokenizer again, or give a template that begins with that token',
  });
}
