/** @file The lists of docs/teachers.md are those of the code; DOCS=write writes them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { configSchema } from '../../config/config.ts';
import { countFromPad } from '../../models/model-folder.ts';
import { knownGenerating, knownInputs } from '../../teachers/reading/inputs.ts';
import { irrelevantLabels, relevantLabels } from '../../teachers/reading/labels.ts';
import { cards } from '../../teachers/reading/prompts.ts';

const FILE = 'docs/teachers.md';
const quoted = (names: Iterable<string>): string => Array.from(names, (n) => `\`${n}\``).join(', ');

const lists: Record<string, string> = {
  inputs: [
    ...Object.entries(knownInputs).map(([name, given]) => `- \`${name}\`: ${given}`),
    ...Object.entries(knownGenerating).map(([name, given]) => `- \`${name}\` (generative): ${given}`),
  ].join('\n'),
  labels: [
    `- Relevance: ${quoted(relevantLabels)}.`,
    `- Its opposite: ${quoted(irrelevantLabels)}, and the first list's with not, non, no, un, ir, in or dis before them.`,
  ].join('\n'),
  families: `${quoted(countFromPad)}.`,
  prompts: Object.entries(cards)
    .map(
      ([name, { models, pieces, yes, no }]) =>
        `- **${name}** (\`model_type\` ${quoted(models)}; \`${yes}\`${no === undefined ? ' alone' : ` and \`${no}\``}): \`${JSON.stringify(pieces.join(''))}\``,
    )
    .join('\n'),
};

const filled = (text: string): string =>
  Object.entries(lists).reduce(
    (all, [name, list]) =>
      all.replace(
        new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`),
        (_, a: string, b: string) => `${a}\n${list}\n\n${b}`,
      ),
    text,
  );

if (process.env.DOCS === 'write') writeFileSync(FILE, filled(readFileSync(FILE, 'utf8')));

test('the lists are those of the code', () => {
  const text = readFileSync(FILE, 'utf8');
  expect(text).toBe(filled(text));
  for (const name of Object.keys(lists)) expect(text).toContain(`<!-- ${name} -->`);
});

test('its examples are configs', () => {
  const [, yaml] = /```yaml\n([\s\S]*?)```/.exec(readFileSync(FILE, 'utf8')) as RegExpExecArray;
  const examples = yaml.trim().split(/^(?=teacher:)/m);
  expect(examples).toHaveLength(4);
  for (const example of examples)
    for (const document of parseAllDocuments(example)) {
      const config = { data: { path: 'data' }, student: { model: 'model' }, ...document.toJS() };
      expect(configSchema.safeParse(config).error?.issues ?? []).toEqual([]);
    }
});

test('its kinds are those of the config', () => {
  const rows = [...readFileSync(FILE, 'utf8').matchAll(/^\| `([\w-]+)`/gm)].map(([, kind]) => kind);
  for (const kind of rows) {
    const { error } = configSchema.safeParse({
      data: { path: 'data' },
      student: { model: 'model' },
      teacher: kind === 'scores' ? { kind } : { kind, model: 'model' },
    });
    expect(error?.issues ?? [], kind).toEqual([]);
  }
  expect(rows).toEqual(['cross-encoder', 'generative', 'dual-encoder', 'scores']);
});
