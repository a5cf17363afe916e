/** @file A folder's chat template as the prompt of a pair: token ids as sentence-transformers 5.7 has them, and what is refused. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { generative, generativeKey } from '../../teachers/generative.ts';
import { chatTemplate } from '../../teachers/reading/chat-template.ts';
import { encodePrompt, promptOf } from '../../teachers/reading/prompts.ts';

const dir = mkdtempSync(join(tmpdir(), 'chat-'));
afterAll(() => rmSync(dir, { recursive: true }));
const qwen3 = join(import.meta.dirname, '../fixtures/generative/qwen3');

const TEMPLATE = `<|im_start|>system
Judge.<|im_end|>
<Instruct>: {{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first | default("Find it") }}
<Query>: {{ (messages | selectattr("role", "eq", "query") | first).content | trim }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

/** sentence_bert_config.json as CrossEncoder.save_pretrained writes it. */
const saved = (chat = {}, format = 'flat') => ({
  transformer_task: 'text-generation',
  modality_config: {
    text: { method: 'forward', method_output_name: 'logits' },
    message: { method: 'forward', method_output_name: 'logits', format },
  },
  module_output_name: 'causal_logits',
  processing_kwargs: { chat_template: chat },
});

function folderOf(name: string, files: Record<string, unknown>): string {
  const folder = join(dir, name);
  cpSync(qwen3, folder, { recursive: true });
  for (const [file, content] of Object.entries(files))
    writeFileSync(join(folder, file), typeof content === 'string' ? content : JSON.stringify(content));
  return folder;
}

async function idsOf(folder: string, query: string, document: string, most = 400, options = {}): Promise<number[]> {
  const [tokenizer, prompt] = [await TextTokenizer.load(folder), await promptOf(folder, {}, options)];
  return [...encodePrompt(tokenizer, prompt, { query, document }, { most, hard: 1024, begin: undefined }).ids];
}

/** Ids that Transformer._process_chat_messages of sentence-transformers 5.7 gave with transformers 4.57. */
const wanted = {
  whole: [
    ...[1, 395, 416, 203, 380, 384, 73, 18, 2, 203, 32, 374, 306, 225, 42, 283, 72, 225, 77, 88, 203, 32, 341, 306],
    ...[274, 84, 271, 225, 74, 77, 80, 266, 203, 32, 368, 306, 225, 95, 291, 97, 302, 376, 87, 274, 84, 271, 225, 74],
    ...[77, 80, 266, 2, 203],
  ],
  system: [
    ...[1, 395, 416, 203, 380, 384, 73, 18, 2, 203, 32, 374, 306, 225, 380, 384, 73, 358, 83, 72, 73, 203, 32, 341],
    ...[306, 274, 84, 271, 203, 32, 368, 306, 225, 74, 77, 80, 266, 2, 203],
  ],
  cut: [
    ...[1, 395, 416, 203, 380, 384, 73, 18, 2, 203, 32, 374, 306, 225, 42, 283, 72, 225, 77, 88, 203, 32, 341, 306],
    ...[274, 84, 271, 225, 74, 77, 80, 266, 203, 32, 368, 306, 269, 225, 79, 263, 82, 73, 80, 225, 87, 69, 348, 406],
    ...[360, 75, 285, 406, 360, 75, 277, 281, 225, 283, 2, 203],
  ],
  'cut generated': [
    ...[1, 395, 416, 203, 380, 384, 73, 18, 2, 203, 32, 374, 306, 225, 42, 283, 72, 225, 77, 88, 203, 32, 341, 306],
    ...[274, 84, 271, 225, 74, 77, 80, 266, 203, 32, 368, 306, 269, 225, 79, 263, 82, 73, 80, 225, 87, 69, 348, 406],
    ...[360, 75, 285, 406, 360, 2, 203, 1, 299, 376, 365, 203],
  ],
};

test('filters, places of texts in texts, instructions and cut prompts, token by token', async () => {
  const folder = folderOf('saved', { 'chat_template.jinja': TEMPLATE, 'sentence_bert_config.json': saved() });
  const generated = folderOf('generated', {
    'chat_template.jinja': TEMPLATE,
    'sentence_bert_config.json': saved({ add_generation_prompt: true }),
  });
  const prompt = folderOf('prompt', {
    'chat_template.jinja': TEMPLATE,
    'sentence_bert_config.json': saved(),
    'config_sentence_transformers.json': { prompts: { code: 'Judge code' }, default_prompt_name: 'code' },
  });
  const long = ['open files', 'the kernel said nothing and nothing was installed', 60] as const;
  expect(await idsOf(folder, '  open files ', '{query} lists open files')).toEqual(wanted.whole);
  expect(await idsOf(folder, ...long)).toEqual(wanted.cut);
  expect(await idsOf(generated, ...long)).toEqual(wanted['cut generated']);
  // The folder's default prompt is the instruction, as a program can give one.
  expect(await idsOf(prompt, 'open', 'files')).toEqual(wanted.system);
  expect(await idsOf(folder, 'open', 'files', 400, { instruction: 'Judge code' })).toEqual(wanted.system);
  const keys = [folder, generated, prompt].map((f) => generativeKey(f));
  expect(new Set(await Promise.all(keys)).size).toBe(3);
});

test('messages of parts, several templates, special tokens', async () => {
  const parts =
    '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}{{ eos_token }}';
  const config = JSON.parse('{"tokenizer_class":"PreTrainedTokenizerFast","bos_token":{"content":"<|im_start|>"}}');
  const folder = folderOf('parts', {
    'tokenizer_config.json': {
      ...config,
      chat_template: [
        { name: 'tool_use', template: 'no' },
        { name: 'default', template: parts },
      ],
    },
    'sentence_bert_config.json': saved({}, 'structured'),
  });
  const template = await chatTemplate(folder, undefined);
  expect(template?.render('a', 'b')).toBe('<|im_start|>query: a\ndocument: b\n');
});

test('a folder without messages joins the two texts as its tokenizer does', async () => {
  const { modality_config: modalities, ...others } = saved();
  const config = { ...others, modality_config: { text: modalities.text }, processing_kwargs: {} };
  const folder = folderOf('joined', { 'sentence_bert_config.json': config });
  const tokenizer = await TextTokenizer.load(folder);
  expect(await idsOf(folder, 'open', 'files')).toEqual([...tokenizer.encodePair('open', 'files').ids]);
  expect(await idsOf(folder, 'open', 'files', 400, { instruction: 'Find ' })).toEqual([
    ...tokenizer.encodePair('Find open', 'files').ids,
  ]);
});

test('a template that fails, is missing or has no place for what is given is refused, not replaced', async () => {
  const files = { 'sentence_bert_config.json': saved() };
  const refused = async (
    name: string,
    own: Record<string, unknown>,
    options: Parameters<typeof generative>[1],
    message: RegExp,
  ) => expect(generative(folderOf(name, { ...files, ...own }), options)).rejects.toThrow(message);
  const user = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
  await refused(
    'user',
    { 'chat_template.jinja': user },
    {},
    /the chat template of .* cannot be used \(it does not show both texts\): expected .*; give the prompt/,
  );
  await refused('raise', { 'chat_template.jinja': "{{ raise_exception('roles') }}" }, {}, /cannot be used \(roles\)/);
  await refused('none', {}, {}, /the chat template of .* is missing/);
  const plain = '{% for m in messages if m.role != "system" %}{{ m.content }}{% endfor %}';
  await refused(
    'plain',
    { 'chat_template.jinja': plain },
    { instruction: 'x' },
    /does not show an instruction, which is given/,
  );
  await refused(
    'template',
    {},
    { template: '{query} {document}', instruction: 'x' },
    /'teacher.instruction' is given, and the template given has no place for it; remove it, or put \{instruction\} into 'teacher.template'/,
  );
  // A template for conversations in a folder of transformers is not meant for pairs: the card's prompt stands.
  const teacher = await generative(folderOf('conversation', { 'chat_template.jinja': user }));
  await teacher.dispose();
  expect(teacher.facts?.notes).toEqual(["the prompt is that of Qwen3-Reranker's card, by its model_type"]);
});
