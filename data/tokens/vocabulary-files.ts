/** @file tokenizer.json of folders that have only the older vocabulary files, as transformers converts them. */
import { type Fields, shown, TokenizerRefusal, unsupported } from './base/fields.ts';

/** Texts of the older files; absent ones are undefined. */
export interface VocabularyFiles {
  /** vocab.txt */
  vocabTxt?: string;
  /** vocab.json */
  vocabJson?: Fields;
  /** merges.txt */
  merges?: string;
}

const bertLike = [
  'MPNet',
  'DPRQuestionEncoder',
  'DPRContextEncoder',
  'Bert',
  'DistilBert',
  'Electra',
  'MobileBert',
  'ConvBert',
  'LayoutLM',
  'Lxmert',
  'SqueezeBert',
];
const robertaLike = ['Roberta', 'Bart', 'Longformer', 'LED'];
/** Classes whose older files are read, by the file of their vocabulary; `docs/models.md` lists them. */
export const vocabularyClasses: Readonly<Record<string, readonly string[]>> = {
  'vocab.txt': bertLike,
  'vocab.json and merges.txt': [...robertaLike, 'GPT2', 'Qwen2'],
};
const QWEN_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const remedy = 'save its fast tokenizer there (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER))';

/**
 * @source convert_slow_tokenizer.py of transformers: BertConverter, MPNetConverter, RobertaConverter, GPT2Converter, Qwen2Converter
 * @throws TokenizerRefusal where the class's conversion is not known, or its files are absent
 */
export function fromVocabularyFiles(files: VocabularyFiles, kind: string, config: Fields): Fields {
  const token = (name: string, otherwise: string): string => {
    const value = config[`${name}_token`];
    const content = typeof value === 'string' ? value : (value as { content?: unknown } | undefined)?.content;
    return typeof content === 'string' ? content : otherwise;
  };
  if (files.vocabTxt !== undefined && bertLike.includes(kind)) {
    const lines = files.vocabTxt.split(/\r\n|\r|\n/);
    if (lines.at(-1) === '') lines.pop();
    const vocab = new Map(lines.map((line, id) => [line, id]));
    const mpnet = kind === 'MPNet';
    const [cls, sep] = [token('cls', mpnet ? '<s>' : '[CLS]'), token('sep', mpnet ? '</s>' : '[SEP]')];
    const around = (name: string, type: number) => ({ SpecialToken: { id: name, type_id: type } });
    const single = [around(cls, 0), { Sequence: { id: 'A', type_id: 0 } }, around(sep, 0)];
    const entry = (name: string) => [name, { id: name, ids: [idIn(vocab, name)], tokens: [name] }];
    return {
      version: '1.0',
      added_tokens: [],
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: config.tokenize_chinese_chars ?? true,
        strip_accents: config.strip_accents ?? null,
        lowercase: config.do_lower_case ?? true,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single,
        pair: [...single, ...(mpnet ? [around(sep, 0)] : []), { Sequence: { id: 'B', type_id: 1 } }, around(sep, 1)],
        special_tokens: Object.fromEntries([entry(cls), entry(sep)]),
      },
      model: {
        type: 'WordPiece',
        unk_token: token('unk', '[UNK]'),
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(vocab),
      },
    };
  }
  const qwen = kind === 'Qwen2';
  const roberta = robertaLike.includes(kind);
  if (files.vocabJson && files.merges !== undefined && (roberta || qwen || kind === 'GPT2')) {
    const vocab = new Map(Object.entries(files.vocabJson) as [string, number][]);
    const lines = files.merges.split(/\r\n|\r|\n/).slice(1, -1);
    const merges = [...new Map(lines.map((l) => l.trim().split(/\s+/)).map((pair) => [pair.join(' '), pair])).values()];
    const prefix = config.add_prefix_space ?? false;
    const pair = (name: string, otherwise: string) => {
      const content = token(name, otherwise);
      return [content, idIn(vocab, content)];
    };
    if (kind === 'GPT2' && config.add_bos_token)
      throw unsupported('its GPT-2 files with add_bos_token have no tokenizer.json', remedy);
    return {
      version: '1.0',
      added_tokens: [],
      normalizer: qwen ? { type: 'NFC' } : null,
      pre_tokenizer: qwen
        ? {
            type: 'Sequence',
            pretokenizers: [
              { type: 'Split', pattern: { Regex: QWEN_WORDS }, behavior: 'Isolated', invert: false },
              { type: 'ByteLevel', add_prefix_space: prefix, trim_offsets: true, use_regex: false },
            ],
          }
        : { type: 'ByteLevel', add_prefix_space: prefix, trim_offsets: true, use_regex: true },
      post_processor: roberta
        ? {
            type: 'RobertaProcessing',
            sep: pair('sep', '</s>'),
            cls: pair('cls', '<s>'),
            trim_offsets: true,
            add_prefix_space: prefix,
          }
        : { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
      model: { type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, vocab: files.vocabJson, merges },
    };
  }
  throw unsupported(
    kind
      ? `it has no tokenizer.json, and the older files of the class ${shown(`${kind}Tokenizer`)} are not read`
      : 'it has no tokenizer.json, and nothing says which class reads its older files (tokenizer_class of tokenizer_config.json, model_type of config.json)',
    remedy,
  );
}

function idIn(vocabulary: ReadonlyMap<string, number>, token: string): number {
  const id = vocabulary.get(token);
  if (id !== undefined) return id;
  throw new TokenizerRefusal('tokenizer.malformed', `its vocabulary lacks the special token ${shown(token)}`, remedy);
}
