/** @file `distill search`: searches an index for a text, or for each line of standard input. */
import { addAbortSignal } from 'node:stream';
import { Command } from 'commander';
import { InputError, shown } from '../../../common/errors.ts';
import { readLines } from '../../../data/files/lines.ts';
import type { MetadataFilter } from '../../../retrieval/engines/facets.ts';
import type { SearchHit } from '../../../serving/documents/document-index.ts';
import { progressReporter } from '../../terminal/progress.ts';
import type { Verb } from '../../terminal/verb.ts';

interface Options {
  count: number;
  cascade?: string;
  encoder?: string;
  json?: boolean;
  where?: MetadataFilter;
}

/** The result of a search, by index alone or by cascade. */
interface Answer {
  query: string;
  documents: (Pick<SearchHit, 'id' | 'text' | 'metadata'> & { score?: number; student?: number; teacher?: number })[];
  pairs?: number;
}

/**
 * `year=2024` is a number, `free=true` a boolean, `section=net` and `year="2024"` are texts.
 * @throws InputError where there is no =
 */
function condition(text: string): MetadataFilter {
  const at = text.indexOf('=');
  if (at < 1)
    throw new InputError({
      code: 'search.filter',
      subject: `--where ${text}`,
      expected: 'a field and its value',
      remedy: 'write for instance --where section=graphics',
    });
  const value = text.slice(at + 1);
  const json = /^(true|false|-?\d+(\.\d+)?([eE][+-]?\d+)?|".*")$/.test(value);
  try {
    return { [text.slice(0, at)]: json ? JSON.parse(value) : value };
  } catch {
    return { [text.slice(0, at)]: value };
  }
}

/** Characters of a document's text per line. */
const SHOWN = 100;

export const search: Verb = ({ out, err, signal }) =>
  new Command('search')
    .description('search an index by a text, or by each line of standard input')
    .argument('<index>', 'folder of the index')
    .argument('[text]', 'the query; lines of standard input by default')
    .option('-k, --count <n>', 'documents per query', Number, 10)
    .option('--cascade <file>', 'cascade.json that decides when the teacher re-ranks')
    .option('--encoder <dir>', 'folder of the checkpoint, if it was moved')
    .option(
      '--where <field=value>',
      'only documents whose metadata has this value; give it several times to combine conditions',
      (text: string, before: MetadataFilter = {}) => ({ ...before, ...condition(text) }),
    )
    .option('--json', 'print a line of JSON per query: query, documents')
    .addHelpText(
      'after',
      '\nExample:\n  distill search indexes/debian "resize an image"\n  distill search indexes/debian --json < queries.txt',
    )
    .action(async (folder: string, text: string | undefined, options: Options) => {
      const { openIndex } = await import('../../../serving/open-index.ts');
      const onProgress = progressReporter(err);
      const note = (text: string) => onProgress({ stage: 'search', done: 0, unit: 'queries', note: text });
      if (!Number.isInteger(options.count) || options.count < 1)
        throw new InputError({
          code: 'search.k',
          subject: `--count ${options.count}`,
          expected: 'a whole number above 0',
        });
      if (options.cascade && options.where)
        throw new InputError({
          code: 'search.filter',
          subject: '--where with --cascade',
          expected: 'searches without a filter, for which the cascade was certified',
          remedy: 'leave one of them out',
        });
      if (text !== undefined && !text.trim())
        throw new InputError({
          code: 'search.blank',
          subject: 'the text to search for is blank',
          remedy: 'give one, or leave it out and give a text a line on standard input',
        });
      const index = await openIndex(folder, { encoder: options.encoder, onProgress, signal });
      try {
        const ask = options.cascade ? await throughCascade(options.cascade, index, note) : undefined;
        const answer = async (query: string): Promise<Answer> =>
          ask
            ? { query, ...(await ask.search(query, options.count)) }
            : { query, documents: await index.search(query, options.count, { filter: options.where }) };
        const say = (found: Answer): void =>
          out.write(options.json ? `${JSON.stringify(found)}\n` : rendered(found, text === undefined));
        if (text !== undefined) say(await answer(text));
        else
          for await (const line of readLines(standardInput(signal))) {
            const query = line.text.trim();
            // A line that is left out would shift the answers of those after it.
            if (!query) note(`line ${line.number} of standard input is blank: its answer has no documents`);
            say(query ? await answer(query) : { query, documents: [] });
          }
        signal.throwIfAborted();
        await ask?.close();
      } finally {
        await index.close();
        onProgress.end();
      }
    });

/** Ends when the signal is given. */
const standardInput = (signal: AbortSignal) => ({
  name: 'standard input',
  bytes: addAbortSignal(signal, process.stdin),
});

async function throughCascade(
  file: string,
  index: Awaited<ReturnType<typeof import('../../../serving/open-index.ts').openIndex>>,
  onNote: (note: string) => void,
) {
  const { openCascade } = await import('../../../serving/cascade.ts');
  return openCascade(file, { index, onNote });
}

function rendered({ query, documents, pairs }: Answer, several: boolean): string {
  const lines = documents.map(({ id, text, score, student, teacher }, i) => {
    const value = score ?? teacher ?? student ?? 0;
    const kind = score === undefined ? (teacher === undefined ? ' student' : ' teacher') : '';
    const line = shown(text.replace(/\s+/g, ' '));
    return `${String(i + 1).padStart(3)}  ${value.toFixed(4)}${kind}  ${shown(id)}  ${line.length > SHOWN ? `${line.slice(0, SHOWN)}...` : line}`;
  });
  const head = several ? [query ? shown(query) : '(a blank line)'] : [];
  const asked = pairs === undefined ? [] : [`the teacher scored ${pairs} documents`];
  return `${[...head, ...lines, ...asked].join('\n')}\n`;
}
