/** @file An ONNX cross-encoder: encodes query and document together and scores their relevance. */
import { FaultError, InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Tokens } from '../data/tokenizer.ts';
import { floatsOf } from '../engine/graph/tensor.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { type CompactForm, checkDType, checkedCompact, compactBytes, isCompact, keyIn } from './compact.ts';
import { exitsKey, openExits } from './exits.ts';
import { hasExits } from './exits-file.ts';
import { type GenerativeOptions, generative, generativeKey } from './generative.ts';
import { describeClassifier, limitSays, pairTokens, type ReadingOptions } from './reading/describe.ts';
import { type ScoreRule, scoreRule } from './reading/labels.ts';
import { columnsOf, logitOf, scoreSource } from './reading/output.ts';
import { isGenerative as isCausal } from './reading/prompts.ts';
import { bytesAToken, type Runner, runTokens, teller } from './reading/run.ts';
import { refuseSplit } from './reading/split-file.ts';
import type { Teacher, TeacherDType } from './teacher.ts';

/** Limits, label and where a cross-encoder computes. */
export interface CrossEncoderOptions extends ReadingOptions {
  name?: string;
  /** int8 (the CPU's integer units) or fp16 (on CUDA), compared with float32 on a sample of the first pairs scored. */
  dtype?: TeacherDType;
  /** Padded tokens a batch. */
  batchTokens?: number;
  session?: SessionOptions;
}

/** Pairs read at a time: enough to sort by length, few enough to hold. */
const CHUNK = 4096;

/** The key of the teacher that `crossEncoder` opens. */
export async function crossEncoderKey(folder: string, options: CrossEncoderOptions = {}): Promise<string> {
  refuseSplit(folder);
  if (hasExits(folder)) return exitsKey(folder, options);
  if (await isGenerative(folder)) return generativeKey(folder, asPrompt(options));
  const { key } = await describeClassifier(folder, options);
  return keyIn(options.dtype, key);
}

const isGenerative = async (folder: string): Promise<boolean> => isCausal((await readModelFolder(folder)).config);

/** @throws InputError where an option has no meaning for a model that is asked in words */
function asPrompt({
  maxQuery,
  maxDocument,
  label,
  prompts,
  dtype,
  ...options
}: CrossEncoderOptions): GenerativeOptions {
  const without = { queryTokens: maxQuery, documentTokens: maxDocument, label, prompts, dtype };
  const [name] = Object.entries(without).find(([, v]) => v !== undefined) ?? [];
  if (!name) return options;
  throw new InputError({
    code: 'teacher.generative',
    subject: `'teacher.${name}' is given for a causal language model, which is asked in one prompt`,
    remedy: `remove it; 'teacher.maxLength' limits the prompt, 'teacher.instruction' and 'teacher.template' say what it holds, and 'teacher.yes' and 'teacher.no' name the answers`,
  });
}

/**
 * Opens a cross-encoder's folder. ONNX Runtime loads the file unchanged. A model with one logit gives that logit; with several,
 * the score is the logit of the label that id2label or `label` names minus the log-sum-exp of the others, which for two is their
 * difference: it orders documents as the softmax does without its flat ends.
 *
 * A causal language model, by config.json's architectures, is opened as `generative` does; a folder with exits as `openExits`
 * does, and its scores are the whole model's.
 *
 * @throws InputError where files are missing, an input is not understood, no output is a score or no label says relevance
 */
export async function crossEncoder(folder: string, options: CrossEncoderOptions = {}): Promise<Teacher> {
  const { dtype, ...rest } = options;
  refuseSplit(folder);
  if (hasExits(folder)) {
    if (isCompact(dtype))
      throw new InputError({
        code: `teacher.${dtype}`,
        subject: `${folder} has exits, whose segments compute in float32`,
        remedy: `remove 'dtype: ${dtype}'`,
      });
    return openExits(folder, rest);
  }
  if (await isGenerative(folder)) return generative(folder, asPrompt(options));
  checkDType(dtype, options.session, folder);
  const whole = await openClassifier(folder, rest);
  if (!isCompact(dtype)) return whole;
  try {
    return checkedCompact(whole, await openClassifier(folder, rest, dtype), dtype);
  } catch (error) {
    await whole.dispose();
    throw error;
  }
}

/** @param form compact, where it is not the file as it is */
async function openClassifier(folder: string, options: CrossEncoderOptions, form?: CompactForm): Promise<Teacher> {
  const read = await describeClassifier(folder, options);
  const { files, tokenizer, model, plan, limits, output, notes } = read;
  const file = files.model;
  const source = await scoreSource(model, output);
  const runner: Runner = {
    file,
    session: form
      ? await Session.load(await compactBytes(form, source, file, limits.maxLength), options.session, file)
      : await Session.open(source, options.session, file),
    plan,
    output: output.port.name,
    batchTokens: options.batchTokens ?? batchTokens(options.session),
    maxLength: limits.maxLength,
    bytesAToken: bytesAToken(model, files.config),
  };
  const tokensOf = pairTokens(read);

  async function scoreChunk(tokens: readonly Tokens[], into: Float32Array, watch: RunControl): Promise<void> {
    await runTokens(runner, tokens, watch, (found, at) => {
      const data = floatsOf(found);
      const columns = data.length / found.dims[0];
      const values = output.probability ? data.map(columns === 1 ? logitOf : Math.log) : data;
      for (const [r, i] of at.entries()) into[i] = rule.read(values, r * columns);
    });
  }

  /** One pair is read at once: what it gives is known then, and a model that does not run is refused before any work. */
  async function probe(): Promise<ScoreRule> {
    let rule: ScoreRule | undefined;
    try {
      await runTokens(runner, [tokensOf({ query: 'a', document: 'b' })], {}, ({ dims }) => {
        const rows = plan.rows ?? dims[0];
        rule = scoreRule(columnsOf(dims, rows, { port: output.port, file }), files.config, file, options.label);
      });
    } catch (cause) {
      await runner.session.release();
      if (!(cause instanceof FaultError)) throw cause;
      const { message: subject, code } = cause;
      throw new InputError({ code, subject, cause });
    }
    return rule as ScoreRule;
  }

  const rule = await probe();
  if (rule.note) notes.push(rule.note);
  const name = options.name ?? folder;
  const tell = teller(notes.map((note) => `${name}: ${note}`));
  return {
    name,
    kind: 'cross-encoder',
    key: read.key,
    tokenizer: tokenizer.hash,
    facts: { file, inputs: plan.says, score: rule.says, limit: limitSays(limits, plan), notes },
    async score(pairs, watch: RunControl = {}) {
      tell(watch);
      const scores = new Float32Array(pairs.length);
      for (let at = 0; at < pairs.length; at += CHUNK) {
        // The texts of a pair are read one after the other: a list may make them on demand.
        const tokens = Array.from({ length: Math.min(CHUNK, pairs.length - at) }, (_, k) => tokensOf(pairs[at + k]));
        await scoreChunk(tokens, scores.subarray(at, at + CHUNK), watch);
        const done = Math.min(pairs.length, at + CHUNK);
        watch.onProgress?.({ stage: 'score', done, total: pairs.length, unit: 'pairs' });
      }
      return scores;
    },
    dispose: () => runner.session.release(),
  };
}
