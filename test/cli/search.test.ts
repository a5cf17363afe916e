/** @file `distill index` and `distill search`: what they print, what is embedded again, lines of standard input, refusals. */
import { appendFileSync, cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { distill, documents, jsonl, makeWorld } from './world.ts';

let world: string;
const at = (name: string): string => join(world, name);
const index = (...more: string[]) =>
  distill('index', at('dual'), '--data', at('data'), '--output', at('index'), ...more);

beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

test('an index is made, gone on with, and not with other options', async () => {
  const first = await index('--codec', 'binary', '--rescore', 'float32:40');
  expect([first.code, first.out]).toEqual([
    0,
    `40 documents in ${at('index')}: 40 embedded, 0 already in the index; vectors 0.0 MB\n`,
  ]);
  appendFileSync(at('data/corpus.jsonl'), jsonl([{ _id: 'more', title: 'more', text: 'zebra' }]));
  const again = await index('--json');
  expect(again.err).toContain('index  41/41 documents');
  const report = JSON.parse(again.out);
  expect(report).toMatchObject({ documents: 41, added: 1, kept: 40, hybrid: false });
  expect(report.settings).toEqual({ codec: 'binary', rescore: { codec: 'float32', count: 40 } });
  for (const [options, why] of [
    [['--codec', 'int8'], 'holds an index made with the settings'],
    [['--codec', 'int9'], "there is no encoding 'int9': expected one of binary"],
    [['--rescore', 'int8'], "--rescore 'int8': expected an encoding and a count; give for instance int8:100"],
    [['--dtype', 'q4'], "no model file of dtype 'q4'"],
  ] as const) {
    const { code, err } = await index(...options);
    expect([code, err]).toEqual([2, expect.stringContaining(why)]);
  }
});

test('--recall: settings are found, printed and kept, and not searched for again', async () => {
  cpSync(at('data'), at('asked'), { recursive: true });
  const more = Array.from({ length: 40 }, (_, i) => ({ _id: `more${i}`, text: documents[i].text }));
  appendFileSync(at('asked/queries.jsonl'), jsonl(more));
  const tuned = (...options: string[]) =>
    distill('index', at('dual'), '--data', at('asked'), '--output', at('tuned'), ...options);
  const first = await tuned('--recall', '0.9');
  expect([first.code, first.err]).toEqual([0, expect.stringContaining('tune')]);
  expect(first.out).toContain(
    'settings found on 32 queries and 41 documents, measured on 32 other queries, one at a time:',
  );
  expect(first.out).toMatch(/int8 \(default\) +[01]\.\d{4} +\d+\.\d{3}\n/);
  expect(first.out).toMatch(/ {2}chosen\n/);
  const again = await tuned('--recall', '0.9', '--json');
  expect(again.err).toContain(
    'settings were found on 41 documents before and stay; for a new search name another folder',
  );
  const report = JSON.parse(again.out);
  expect(report).toMatchObject({ added: 0, kept: 41, tuned: { goal: { recall: 0.9 }, heldOut: { queries: 32 } } });
  expect(report.settings).toEqual(report.tuned.settings);
  expect((await distill('search', at('tuned'), 'zebra', '-k', '2')).code).toBe(0);
  for (const [options, why] of [
    [
      ['--recall', '0.8'],
      'holds an index made with settings found for {"recall":0.9}, and {"recall":0.8} is asked for',
    ],
    [['--ms', '1'], 'and {"ms":1} is asked for'],
    [['--recall', '0.9', '--ms', '1'], '--recall together with --ms; give one of them'],
    [['--ms', '1', '--codec', 'int8'], '--ms together with --codec; give one of them'],
    [['--recall', '95'], 'a recall of 95: expected a number above 0 and below 1'],
    [['--recall', 'much'], 'a recall of NaN'],
    [['--data', at('data'), '--recall', '0.9'], '24 queries to find settings with: expected at least 40'],
  ] as const) {
    const { code, err } = await tuned(...options);
    expect([code, err]).toEqual([2, expect.stringContaining(why)]);
  }
  const { code, err } = await distill(
    ...['index', at('dual'), '--data', at('asked'), '--output', at('index'), '--recall', '0.9'],
  );
  expect([code, err]).toEqual([2, expect.stringContaining('which keep no vectors to find others with')]);
});

test('--index usearch: kept, gone on with, and refused with other kinds', async () => {
  const index = (...more: string[]) =>
    distill('index', at('dual'), '--data', at('data'), '--output', at('graph'), '--index', 'usearch', ...more);
  const first = await index('--json');
  expect([first.code, JSON.parse(first.out).settings]).toEqual([0, { codec: 'int8', graph: { expansion: 100 } }]);
  expect((await index()).out).toContain('0 embedded, 41 already in the index');
  expect((await distill('search', at('graph'), 'open file', '-k', '3')).out.split('\n')).toHaveLength(4);
  const other = await distill('index', at('dual'), '--data', at('data'), '--output', at('graph'), '--codec', 'int8');
  expect([other.code, other.err]).toEqual([2, expect.stringContaining('holds an index made with the settings')]);
  const kind = await distill('index', at('dual'), '--data', at('data'), '--output', at('none'), '--index', 'faiss');
  expect([kind.code, kind.err]).toEqual([2, expect.stringContaining("no kind of index 'faiss': expected usearch")]);
  const binary = await index('--codec', 'binary', '--output', at('none'));
  expect([binary.code, binary.err]).toEqual([2, expect.stringContaining('a graph over binary')]);
});

test('a text on the command line: documents as lines or as JSON', async () => {
  const { out } = await distill('search', at('index'), 'zebra', '-k', '2');
  expect(out.trim().split('\n')).toHaveLength(2);
  expect(out).toMatch(/^ {2}1 {2}-?\d\.\d{4} {2}\w+ {2}\S/);
  const found = JSON.parse((await distill('search', at('index'), documents[3].text, '-k', '3', '--json')).out);
  expect(found.query).toBe(documents[3].text);
  expect(found.documents).toHaveLength(3);
  expect(Object.keys(found.documents[0]).sort()).toEqual(['id', 'score', 'text']);
});

test('lines of standard input: an answer for each, in order, also for blank ones', async () => {
  const input = vi.spyOn(process, 'stdin', 'get');
  const ask = (bytes: readonly (string | Uint8Array)[], ...more: string[]) => {
    input.mockReturnValue(Readable.from(bytes) as never);
    return distill('search', at('index'), '-k', '1', ...more);
  };
  try {
    // What ends a line elsewhere (U+2028, a lone return) is part of a query; a character may be in two chunks.
    const word = Buffer.from('scän\u2028print\r\n\n');
    const { out, err, code } = await ask(
      ['\ufeffopen file\n  \n', word.subarray(0, 3), word.subarray(3), 'new\rline\n', 'last'],
      '--json',
    );
    expect(code).toBe(0);
    const answers = out
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
    expect(answers.map((a) => [a.query, a.documents.length])).toEqual([
      ['open file', 1],
      ['', 0],
      ['scän\u2028print', 1],
      ['', 0],
      ['new\rline', 1],
      ['last', 1],
    ]);
    expect(err).toContain('line 2 of standard input is blank: its answer has no documents');
    expect(err).toContain('line 4 of standard input is blank');
    expect((await ask(['open file\n\n'])).out).toMatch(/^open file\n {2}1 {2}.*\n\(a blank line\)\n$/);
    const latin = await ask(['open\n', Buffer.from('sc\xe4n\n', 'latin1')]);
    expect([latin.code, latin.err]).toEqual([2, expect.stringContaining('standard input line 2 is not UTF-8')]);
  } finally {
    input.mockRestore();
  }
  const blank = await distill('search', at('index'), ' ');
  expect([blank.code, blank.err]).toEqual([2, expect.stringContaining('the text to search for is blank')]);
});

test('a folder that is none', async () => {
  const { code, err } = await distill('search', at('data'), 'open');
  expect([code, err]).toEqual([2, expect.stringContaining('holds no index (there is no search.json)')]);
});
