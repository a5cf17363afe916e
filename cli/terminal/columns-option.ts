/** @file `data.columns` as one option of a command: `query=search_term,document=title,label=relevance`. */
import { InputError } from '../../common/errors.ts';
import { columns } from '../../config/config.ts';
import type { ColumnOptions } from '../../data/files/columns.ts';

/**
 * @param text ROLE=COLUMN separated by commas; several columns of a role are joined by +, a number is a column index
 * @throws InputError if a role is unknown, is given twice or has no column
 */
export function parseColumns(text: string): ColumnOptions {
  const refuse = (subject: string): InputError =>
    new InputError({
      code: 'data.columns',
      subject,
      expected: `ROLE=COLUMN separated by commas, with the roles ${Object.keys(columns.shape).join(', ')}`,
      remedy:
        "for example --columns 'query=search_term,document=title,label=relevance'; several columns of a role: negatives=a+b",
    });
  const found: Record<string, unknown> = {};
  for (const part of text.split(',')) {
    const [, role, names] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/s.exec(part) ?? [];
    if (!role || !names) throw refuse(`--columns has '${part.trim()}'`);
    if (Object.hasOwn(found, role)) throw refuse(`--columns names '${role}' twice`);
    const all = names.split('+').map((n) => (/^[1-9]\d*$/.test(n.trim()) ? Number(n) : n.trim()));
    found[role] = all.length > 1 ? all : all[0];
  }
  const checked = columns.safeParse(found);
  if (checked.success) return checked.data;
  const [{ path, message }] = checked.error.issues;
  throw refuse(`--columns: ${[path.join('.'), message].filter(Boolean).join(' ')}`);
}
