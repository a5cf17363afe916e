/** @file Every verb: help with an example that names it, options described; what wrong calls say. */
import { describe, expect, test } from 'vitest';
import { program } from '../../cli/program.ts';
import { progressLine, progressReporter } from '../../cli/terminal/progress.ts';
import { renderSystems } from '../../cli/terminal/report.ts';
import { duration } from '../../common/duration.ts';
import { distill } from './world.ts';

const silent = { out: { write: () => {} }, err: { write: () => {} } };
const verbs = program(silent, new AbortController().signal).commands;

describe.each(verbs.map((v) => [v.name(), v] as const))('%s', (name, verb) => {
  test('has help with an example that parses as far as its options', async () => {
    const { code, out } = await distill(name, '--help');
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`\\nExample:\\n  distill ${name}\\b`));
    const calls = out.slice(out.indexOf('Example:')).match(new RegExp(`distill ${name}\\b[^&\n]*`, 'g')) ?? [];
    const used = calls.flatMap((call) => call.match(/--[a-z-]+/g) ?? []);
    const known = [verb, ...verb.commands].flatMap((v) => v.options.map((o) => o.long));
    for (const option of used) expect(known).toContain(option);
  });

  test('describes itself and each of its options and arguments', () => {
    expect(verb.description().length).toBeGreaterThan(10);
    for (const v of [verb, ...verb.commands])
      for (const described of [...v.options, ...v.registeredArguments]) expect(described.description).not.toBe('');
  });

  test('refuses an unknown option with code 2', async () => {
    const { code, err } = await distill(name, '--nonsense');
    expect(code).toBe(2);
    expect(err).toMatch(/error: unknown option '--nonsense'|error: missing required argument|error: required option/);
  });
});

test('version, help and a verb that is none', async () => {
  expect(await distill('--version')).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  const help = await distill('--help');
  for (const verb of verbs) expect(help.out).toContain(verb.name());
  const { code, err } = await distill('rum');
  expect(code).toBe(2);
  expect(err).toContain("unknown command 'rum'");
  expect(err).toContain('Did you mean run?');
});

test('a line of progress: stage, done, rate, time left, loss', () => {
  const p = { stage: 'train', done: 120, total: 400, unit: 'steps', loss: 0.41234 };
  expect(progressLine(p, 40, 120)).toBe('train  120/400 steps  30%  3.0 steps/s  1 min 33 s left  loss 0.4123');
  expect(duration(7300)).toBe('2 h 1 min');
});

test('the table: a column for each metric, and for size and latency where some system has them', () => {
  const lines = renderSystems([
    { name: 'BM25', metrics: { 'ndcg@10': 0.764, 'mrr@10': 0.7 }, queryMilliseconds: 0.51 },
    { name: 'student', metrics: { 'ndcg@10': 0.83111, 'mrr@10': 0.8 }, bytes: 45_500_000, queryMilliseconds: 2.04 },
  ]);
  expect(lines).toEqual([
    'system   ndcg@10  mrr@10    MB  ms per query',
    'BM25      0.7640  0.7000     -           0.5',
    'student   0.8311  0.8000  45.5           2.0',
  ]);
});

test('on a terminal one line is redrawn and ends when the stage does; elsewhere there are plain lines now and then', () => {
  const drawn = (isTTY: boolean): string => {
    let time = 1e6;
    const lines: string[] = [];
    const report = progressReporter({ write: (s) => void lines.push(s), isTTY, columns: 60 }, () => time);
    for (let done = 1; done <= 300; done++) {
      time += 100;
      report({ stage: 'score', done, total: 300, unit: 'pairs' });
    }
    report({ stage: 'run', done: 0, unit: 'stages', note: 'a choice' });
    report.end();
    return lines.join('');
  };
  const terminal = drawn(true);
  expect(terminal.split('\n').length).toBe(3);
  expect(terminal.endsWith('a choice\n')).toBe(true);
  const plain = drawn(false);
  expect(plain).not.toContain('\x1b');
  expect(
    plain
      .split('\n')
      .slice(0, -1)
      .map((l) => l.split('  ')[1]),
  ).toEqual(['1/300 pairs', '101/300 pairs', '201/300 pairs', '300/300 pairs', undefined]);
});
