/** @file What the tokenizer classes of transformers 4.57 change in a file: special tokens, normalizers, lower case. */
import type { Fields } from './base/fields.ts';

const bertTokens = { unk: '[UNK]', sep: '[SEP]', pad: '[PAD]', cls: '[CLS]', mask: '[MASK]' };
const robertaTokens = { bos: '<s>', eos: '</s>', unk: '<unk>', sep: '</s>', pad: '<pad>', cls: '<s>', mask: '<mask>' };
const gpt2Tokens = { bos: '<|endoftext|>', eos: '<|endoftext|>', unk: '<|endoftext|>' };
/** Special tokens that a class has where the files do not say. */
export const classTokens: Record<string, Readonly<Record<string, string>>> = {
  ...Object.fromEntries(
    [
      'Bert',
      'ConvBert',
      'DistilBert',
      'DPRContextEncoder',
      'DPRQuestionEncoder',
      'Electra',
      'LayoutLM',
      'LayoutLMv2',
      'Lxmert',
      'MobileBert',
      'RoFormer',
      'SqueezeBert',
    ].map((c) => [c, bertTokens]),
  ),
  ...Object.fromEntries(
    ['Roberta', 'Bart', 'Longformer', 'LED', 'XLMRoberta', 'Camembert'].map((c) => [c, robertaTokens]),
  ),
  MPNet: { ...robertaTokens, unk: '[UNK]' },
  GPT2: gpt2Tokens,
  Qwen2: { eos: '<|endoftext|>', unk: '<|endoftext|>', pad: '<|endoftext|>' },
  Albert: { ...bertTokens, bos: '[CLS]', eos: '[SEP]', unk: '<unk>', pad: '<pad>' },
  DebertaV2: { ...bertTokens, bos: '[CLS]', eos: '[SEP]' },
  T5: { eos: '</s>', unk: '<unk>', pad: '<pad>' },
};
/** Classes that set the normalizer's options by tokenizer_config.json, the last two without the one of ideographs. */
const lowering = [
  'Bert',
  'ConvBert',
  'DistilBert',
  'DPRContextEncoder',
  'DPRQuestionEncoder',
  'Electra',
  'Funnel',
  'LayoutLM',
  'Lxmert',
  'MobileBert',
  'RoFormer',
  'SqueezeBert',
  'MPNet',
  'LayoutLMv2',
];
/** Classes of model types, for folders whose files name no class. */
const classOfModel: Record<string, string> = {
  bert: 'Bert',
  convbert: 'ConvBert',
  distilbert: 'DistilBert',
  electra: 'Electra',
  funnel: 'Funnel',
  layoutlm: 'LayoutLM',
  lxmert: 'Lxmert',
  mobilebert: 'MobileBert',
  roformer: 'RoFormer',
  squeezebert: 'SqueezeBert',
  mpnet: 'MPNet',
  roberta: 'Roberta',
  bart: 'Bart',
  longformer: 'Longformer',
  gpt2: 'GPT2',
  'xlm-roberta': 'XLMRoberta',
  camembert: 'Camembert',
};
/** Classes that pad on the left and put their own tokens around texts. */
export const causal = ['Llama', 'CodeLlama', 'Gemma'];

/** A tokenizer's class without `Tokenizer` and `Fast`; empty where no file names it. */
export function classOf({ config, model }: { config: Fields; model?: Fields }): string {
  const named = config.tokenizer_class ?? model?.tokenizer_class;
  if (typeof named === 'string') return named.replace(/Fast$/, '').replace(/Tokenizer$/, '');
  const type = model?.model_type;
  return typeof type === 'string' && Object.hasOwn(classOfModel, type) ? classOfModel[type] : '';
}

/** What the classes of transformers change in the file's own components. */
export function adjusted(json: Fields, kind: string, config: Fields): Fields {
  const out = { ...json };
  const normalizer = json.normalizer as Fields | null | undefined;
  if (lowering.includes(kind) && normalizer?.type === 'BertNormalizer')
    out.normalizer = {
      ...normalizer,
      lowercase: config.do_lower_case ?? true,
      strip_accents: config.strip_accents ?? null,
      ...(kind === 'MPNet' || kind === 'LayoutLMv2'
        ? {}
        : { handle_chinese_chars: config.tokenize_chinese_chars ?? true }),
    };
  const splitter = json.pre_tokenizer as Fields | null | undefined;
  if (splitter?.type === 'ByteLevel')
    out.pre_tokenizer = { ...splitter, add_prefix_space: config.add_prefix_space ?? kind === 'LayoutLMv3' };
  return out;
}

interface Normalizer {
  type?: string;
  lowercase?: boolean;
  normalizers?: Normalizer[];
}

/**
 * Puts Lowercase in front of a tokenizer's normalizers unless one of them does it, as sentence-transformers does.
 * @param json tokenizer.json
 * @returns whether it was put there
 */
export function inLowerCase(json: { normalizer?: unknown }): boolean {
  const normalizer = json.normalizer as Normalizer | null | undefined;
  const lowers = (n: Normalizer): boolean =>
    n.type === 'Lowercase' || n.lowercase === true || (n.normalizers ?? []).some(lowers);
  if (normalizer && lowers(normalizer)) return false;
  const others = normalizer?.type === 'Sequence' ? (normalizer.normalizers ?? []) : normalizer ? [normalizer] : [];
  json.normalizer = { type: 'Sequence', normalizers: [{ type: 'Lowercase' }, ...others] };
  return true;
}
