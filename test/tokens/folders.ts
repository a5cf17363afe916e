/** @file Small tokenizer folders for tests. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder with files: texts as they are, anything else as JSON. */
export function folderOf(files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(tmpdir(), 'tokens-'));
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  return folder;
}

const special = (content: string, id: number) => ({ id, content, special: true, normalized: false });

/** A BERT tokenizer over a and b. */
export function bert(changes: Record<string, unknown> = {}, config: Record<string, unknown> = {}) {
  const piece = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } });
  const single = [piece('[CLS]', 0), { Sequence: { id: 'A', type_id: 0 } }, piece('[SEP]', 0)];
  const names = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'b', 'A', 'é', 'e'];
  const ids = (id: string) => ({ id, ids: [names.indexOf(id)], tokens: [id] });
  return {
    'tokenizer.json': {
      version: '1.0',
      added_tokens: names.slice(0, 4).map(special),
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: {
        type: 'TemplateProcessing',
        single,
        pair: [...single, { Sequence: { id: 'B', type_id: 1 } }, piece('[SEP]', 1)],
        special_tokens: { '[CLS]': ids('[CLS]'), '[SEP]': ids('[SEP]') },
      },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: Object.fromEntries(names.map((name, id) => [name, id])),
      },
      ...changes,
    },
    'tokenizer_config.json': { tokenizer_class: 'PreTrainedTokenizerFast', ...config },
  };
}
