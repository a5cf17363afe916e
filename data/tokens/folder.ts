/**
 * @file A model folder's tokenizer as transformers 4.57 opens it: tokenizer.json, and the changes by the other files of the
 * folder.
 */
import { type AddedToken, readAddedToken } from './added-tokens.ts';
import { type Fields, fieldsOf, HIGHEST_ID, malformed, shown } from './base/fields.ts';
import { adjusted, causal, classOf, classTokens, inLowerCase } from './classes.ts';
import { readPipeline, type TokenizerPipeline } from './pipeline.ts';
import type { Part, Templates } from './post-processor.ts';
import { fromVocabularyFiles, type VocabularyFiles } from './vocabulary-files.ts';

/** Parsed files of a folder; absent ones are undefined. */
export interface TokenizerFiles extends VocabularyFiles {
  tokenizer?: Fields;
  config: Fields;
  /** special_tokens_map.json */
  specialTokens?: Fields;
  /** added_tokens.json */
  addedTokens?: Fields;
  /** Whether texts are put in lower case first. */
  lowerCase?: boolean;
  /** config.json of the model, for the tokenizer's class where nothing else names it. */
  model?: Fields;
}

export interface OpenedTokenizer {
  readonly pipeline: TokenizerPipeline;
  readonly templates: Templates;
  readonly padId: number;
  readonly modelMaxLength: number | undefined;
  readonly truncationSide: 'left' | 'right';
  readonly paddingSide: 'left' | 'right';
  /** Whether a normalizer was put in front that lower case needs. */
  readonly lowered: boolean;
  /** tokenizer.json; where the folder has none, what stands for it, with the tokens that the files next to it add. */
  readonly json: Fields;
}

const specialNames = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'] as const;

/** @throws TokenizerRefusal naming what is not understood */
export function openTokenizer(files: TokenizerFiles): OpenedTokenizer {
  const { config } = files;
  const kind = classOf(files);
  const json = adjusted(files.tokenizer ?? fromVocabularyFiles(files, kind, config), kind, config);
  // As sentence-transformers does it: to the tokenizer that the class has made.
  const lowered = files.lowerCase === true && inLowerCase(json);
  const pipeline = readPipeline(json);
  const special = specialTokensOf(files, kind, pipeline);
  addTokens(files, special, pipeline);
  const { pad } = special;
  const padding = json.padding ? fieldsOf(json.padding, 'padding') : {};
  const truncation = json.truncation ? fieldsOf(json.truncation, 'truncation') : {};
  const names = [pad && contentOf(pad), padding.pad_token, '[PAD]', '<pad>'];
  const padId = names.map((n) => (typeof n === 'string' ? pipeline.idOf(n) : undefined)).find((id) => id !== undefined);
  const opened: OpenedTokenizer = {
    lowered,
    json: files.tokenizer ?? { ...json, added_tokens: addedOf(pipeline) },
    pipeline,
    templates: templatesOf(kind, config, special, pipeline),
    padId: padId ?? 0,
    modelMaxLength: maxLengthOf(config),
    truncationSide: sideOf(config.truncation_side ?? truncation.direction, 'truncation_side'),
    paddingSide: sideOf(
      config.padding_side ?? padding.direction ?? (causal.includes(kind) ? 'left' : 'right'),
      'padding_side',
    ),
  };
  testItself(pipeline, opened.templates);
  return opened;
}

/** The added tokens of a tokenizer as tokenizer.json lists them. */
const addedOf = ({ added }: TokenizerPipeline): Fields[] =>
  [...added.tokens()]
    .map(({ content, singleWord, ...t }) => ({ id: added.idOf(content), content, single_word: singleWord, ...t }))
    .sort((a, b) => Number(a.id) - Number(b.id));

type Special = Partial<Record<(typeof specialNames)[number], unknown>> & { additional?: readonly unknown[] };

const contentOf = (token: unknown): string | undefined => {
  const content = typeof token === 'string' ? token : (token as { content?: unknown } | null)?.content;
  return typeof content === 'string' ? content : undefined;
};

/** bos_token and its like: from special_tokens_map.json where the configuration lists no added tokens, else from the latter. */
function specialTokensOf(
  { config, specialTokens, tokenizer }: TokenizerFiles,
  kind: string,
  pipeline: TokenizerPipeline,
): Special {
  const old = config.added_tokens_decoder === undefined ? (specialTokens ?? {}) : {};
  const known = classTokens[kind] ?? {};
  const found: Special = {};
  for (const name of specialNames) {
    const value = old[`${name}_token`] ?? config[`${name}_token`] ?? known[name];
    if (contentOf(value) !== undefined) found[name] = value;
  }
  // These classes' mask takes the space before it, where no file says what it does.
  const mask = found.mask;
  const unsaid = !tokenizer || (typeof mask === 'string' && pipeline.idOf(mask) === undefined);
  if (typeof mask === 'string' && unsaid && (known.mask === '<mask>' || kind === 'Albert'))
    found.mask = { content: mask, lstrip: true, normalized: false, special: true };
  const more = old.additional_special_tokens ?? config.additional_special_tokens;
  if (Array.isArray(more)) found.additional = more;
  return found;
}

/** Adds tokens that the other files name and tokenizer.json lacks. */
function addTokens(files: TokenizerFiles, special: Special, pipeline: TokenizerPipeline): void {
  const { config, addedTokens } = files;
  const listed = config.added_tokens_decoder;
  const specials = [...specialNames.map((n) => special[n]), ...(special.additional ?? [])].filter(
    (t) => contentOf(t) !== undefined,
  );
  const contents = new Set(specials.map(contentOf));
  const tokens: AddedToken[] = [];
  if (listed !== undefined && listed !== null) {
    const entries = Object.entries(fieldsOf(listed, 'added_tokens_decoder'));
    for (const [id, token] of entries.sort((a, b) => Number(a[0]) - Number(b[0]))) {
      if (!/^\d+$/.test(id) || Number(id) > HIGHEST_ID)
        throw malformed(`added_tokens_decoder names the id ${shown(id)}, not a whole number from 0 to ${HIGHEST_ID}`);
      tokens.push(readAddedToken(token, `token ${id} of added_tokens_decoder`));
    }
  } else if (addedTokens)
    for (const [content, id] of Object.entries(addedTokens).sort((a, b) => Number(a[1]) - Number(b[1]))) {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > HIGHEST_ID)
        throw malformed(`added_tokens.json gives ${shown(content)} the id ${shown(id)}`);
      const isSpecial = contents.has(content);
      tokens.push(readAddedToken({ content, special: isSpecial, normalized: !isSpecial }, 'added_tokens.json'));
    }
  const have = new Set([...pipeline.added.tokens()].map((t) => t.content));
  for (const token of tokens) have.add(token.content);
  for (const token of specials)
    if (!have.has(contentOf(token) as string)) {
      const fields = typeof token === 'string' ? { content: token, normalized: false } : { ...(token as Fields) };
      tokens.push({ ...readAddedToken({ ...fields, special: true }, 'a special token'), special: true });
      have.add(contentOf(token) as string);
    }
  const marked = tokens.map((t) => (contents.has(t.content) ? { ...t, special: true } : t));
  if (marked.length) pipeline.added.add(marked);
}

/** Llama's and Gemma's classes put their own tokens around texts, whatever the file's post-processor says. */
function templatesOf(kind: string, config: Fields, special: Special, pipeline: TokenizerPipeline): Templates {
  if (!causal.includes(kind)) return pipeline.templates;
  const put = (name: 'bos' | 'eos', otherwise: boolean, type: number): Part[] => {
    if (!(config[`add_${name}_token`] ?? otherwise)) return [];
    const token = contentOf(special[name]) ?? (kind === 'Gemma' ? `<${name}>` : { bos: '<s>', eos: '</s>' }[name]);
    const id = pipeline.idOf(token);
    if (id === undefined)
      throw malformed(`its vocabulary lacks ${name}_token ${shown(token)}, which add_${name}_token asks for`);
    return [{ ids: [id], type }];
  };
  const around = (text: 0 | 1): Part[] => [
    ...put('bos', true, text),
    { text, ids: [], type: text },
    ...put('eos', false, text),
  ];
  return { single: around(0), pair: [...around(0), ...around(1)] };
}

function maxLengthOf(config: Fields): number | undefined {
  const max = config.model_max_length ?? undefined;
  if (max === undefined) return undefined;
  if (typeof max !== 'number' || !(max >= 1) || (max < 1e6 && !Number.isInteger(max)))
    throw malformed(`model_max_length of tokenizer_config.json is ${shown(max)}, not a whole number of tokens`);
  // transformers writes 1e30 for no limit.
  return max < 1e6 ? max : undefined;
}

function sideOf(value: unknown, what: string): 'left' | 'right' {
  const side = typeof value === 'string' ? value.toLowerCase() : value;
  if (side === undefined || side === null || side === 'right') return 'right';
  if (side === 'left') return 'left';
  throw malformed(`${what} is ${shown(value)}, neither left nor right`);
}

/** Texts that find what a vocabulary or a rule lacks. */
const hard = [
  'a b',
  "Hello, World! 3.14 don't re-use\tfoo_bar",
  'ΟΔΥΣΣΕΎΣ Привет 你好 世界 かがみ \u1112\u1161\u11ab 안녕 שָׁלוֹם مرحبا नमस्ते ภาษาไทย',
  '👩‍👩‍👧 🏳️‍🌈 e\u0301\u0302 ﬁ ½ \u0000\u0007\u200d\ufeff\ufffd\u{e0041}',
  'x'.repeat(300),
];

/** Reads hard texts once, so that what cannot be read is said now: every id must be one of the vocabulary. */
function testItself(pipeline: TokenizerPipeline, templates: Templates): void {
  const last = pipeline.highestId();
  for (const parts of [templates.single, templates.pair])
    for (const { ids } of parts)
      for (const id of ids)
        if (id > last)
          throw malformed(`its post-processor puts the token ${id} around texts, and the last one is ${last}`);
  for (const text of hard)
    for (const id of pipeline.encode(text))
      if (!(id >= 0 && id <= last)) throw malformed(`it gives the token ${id}, and the last one is ${last}`);
}
