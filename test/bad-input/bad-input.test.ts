/** @file Bad input: one sentence that names the place and the remedy, code 2, no stack, and everything there before unchanged. */
import { cpSync, mkdtempSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Expr } from '../../engine/expressions/expr.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { distill, makeWorld, snapshot, write } from '../cli/world.ts';

let world: string;
/** The world after a run that went well: what a later mistake must not harm. */
beforeAll(async () => {
  world = await makeWorld();
  const { code, err } = await distill('run', join(world, 'distill.yaml'), '--output', join(world, 'out'));
  if (code) throw new Error(err);
});

interface Case {
  /** Spoils a copy of the world. */
  spoil?(folder: string): void | Promise<void>;
  /** Further arguments of `distill run`; {} stands for the folder. */
  set?: string[];
  says: RegExp;
}

const run = (folder: string, sets: string[] = []) =>
  distill(
    'run',
    join(folder, 'distill.yaml'),
    ...[`output=${folder}/out`, ...sets].flatMap((s) => ['--set', s.replaceAll('{}', folder)]),
  );

const line = (folder: string, file: string, number: number, text: string): void => {
  const lines = readFileSync(join(folder, file), 'utf8').split('\n');
  lines[number - 1] = text;
  writeFileSync(join(folder, file), lines.join('\n'));
};

const config = (folder: string, from: string, to: string): void => {
  const file = join(folder, 'distill.yaml');
  const text = readFileSync(file, 'utf8');
  if (!text.includes(from)) throw new Error(`the config has no ${from}`);
  writeFileSync(file, text.replace(from, to));
};

/** The student's model with one more operator behind its last one. */
async function changed(folder: string, change: (last: Expr) => Expr): Promise<void> {
  const file = join(folder, 'dual', 'onnx', 'model.onnx');
  const graph = await loadGraph(file);
  const [last] = graph.outputs;
  const { value } = change(new Expr(graph, last));
  [last.name, value.name] = ['before', last.name];
  graph.setOutputs(value);
  writeFileSync(file, encodeGraph(graph));
}

const cases: Record<string, Case> = {
  'a folder of data that is not there': {
    set: ['data.path={}/nowhere'],
    says: /there is no data \S+\/nowhere; give a folder with corpus\.jsonl, queries\.jsonl and qrels\/\*\.tsv, a file of rows/,
  },
  'a model folder that is not there': {
    set: ['student.model={}/nowhere'],
    says: /there is no model folder \S+\/nowhere; give a folder with onnx\/model\.onnx, tokenizer\.json and config\.json/,
  },
  'a teacher that is not there': {
    set: ['teacher.model={}/nowhere'],
    says: /there is no model folder \S+\/nowhere; give a folder with/,
  },
  'a file of scores that is not there': {
    set: ['teacher={kind: scores, files: {train: {}/nowhere.tsv}}', 'candidates.source=given'],
    says: /there is no file of scores \S+\/nowhere\.tsv; give a file of lines query-id, corpus-id, score/,
  },
  'a config key that is none': {
    spoil: (folder) => config(folder, 'warmupSteps', 'warmUpStep'),
    says: /distill\.yaml line \d+: 'train\.warmUpStep' is not a known key; did you mean 'warmupSteps'\?/,
  },
  'a config value of a wrong type': {
    spoil: (folder) => config(folder, 'count: 4', 'count: many'),
    says: /distill\.yaml line \d+: 'candidates\.count' .*number.*received "many"; fix it; `distill schema` prints what is possible/,
  },
  'a config value out of range': {
    set: ['train.learningRate=-1'],
    says: /distill\.yaml: 'train\.learningRate' .*received -1; fix it/,
  },
  'a config that is not YAML': {
    spoil: (folder) => line(folder, 'distill.yaml', 2, 'data: [unclosed'),
    says: /distill\.yaml line \d+ column \d+ is not valid YAML \(.*\); fix the line/,
  },
  'judgements of unknown queries alone': {
    spoil: (folder) => write(folder, { 'data/qrels/dev.tsv': 'query-id\tcorpus-id\tscore\nq999\td1\t1\n' }),
    says: /qrels\/dev\.tsv: none of its 1 judgements is of a query that the data holds \(e\.g\. 'q999'\); use the ids of the queries' table/,
  },
  'a file of judgements without one': {
    spoil: (folder) => write(folder, { 'data/qrels/dev.tsv': 'query-id\tcorpus-id\tscore\n' }),
    says: /qrels\/dev\.tsv holds no judgement; add lines query-id, corpus-id, score, or remove the file/,
  },
  'a judgement that is not a number': {
    spoil: (folder) => line(folder, 'data/qrels/train.tsv', 4, 'q2\td2\tyes'),
    says: /qrels\/train\.tsv line 4: expected query-id, corpus-id and a whole number, separated by tabs, received "q2\\td2\\tyes"; fix or remove/,
  },
  'malformed JSON on a line': {
    spoil: (folder) => line(folder, 'data/corpus.jsonl', 7, '{"_id": "d6", "text": "unclosed'),
    says: /corpus\.jsonl line 7 is not valid JSON \(.*\); fix or remove the line/,
  },
  'a document without a text': {
    spoil: (folder) => line(folder, 'data/corpus.jsonl', 2, '{"_id": "d1"}'),
    says: /corpus\.jsonl line 2: expected a text under 'text', received nothing; fix or remove the line/,
  },
  'an id used twice': {
    spoil: (folder) => line(folder, 'data/queries.jsonl', 2, '{"_id": "q0", "text": "a"}'),
    says: /queries\.jsonl line 2 uses the id 'q0' a second time; give each text an id of its own/,
  },
  'an empty corpus': {
    spoil: (folder) => write(folder, { 'data/corpus.jsonl': '\n' }),
    says: /corpus\.jsonl holds no documents; write at least one of the documents, one JSON object a line/,
  },
  'a split that is not there': {
    set: ['data.splits.train=training'],
    says: /qrels has no split 'training': expected one of dev, test, train; name one of these under data\.splits/,
  },
  'a query without candidates': {
    spoil: (folder) => {
      const file = join(folder, 'teacher-scores-train.tsv');
      writeFileSync(file, readFileSync(file, 'utf8').replace(/^q[37]\t.*\n/gm, ''));
    },
    set: ['teacher={kind: scores, files: {train: {}/teacher-scores-train.tsv}}', 'candidates.source=given'],
    says: /teacher-scores-train\.tsv lists no candidate for the query 'q3' nor for 1 others of the split 'train'; add lines for it, or leave such queries out with 'candidates\.onEmpty: skip'/,
  },
  'a score that is not a number': {
    spoil: (folder) => line(folder, 'teacher-scores-train.tsv', 5, 'q1\td1\tnan'),
    set: ['teacher={kind: scores, files: {train: {}/teacher-scores-train.tsv}}', 'candidates.source=given'],
    says: /teacher-scores-train\.tsv line 5: expected query-id, corpus-id and a number, separated by tabs, received/,
  },
  'a score beyond float32': {
    spoil: (folder) => line(folder, 'teacher-scores-train.tsv', 5, 'q1\td1\t1e39'),
    set: ['teacher={kind: scores, files: {train: {}/teacher-scores-train.tsv}}', 'candidates.source=given'],
    says: /teacher-scores-train\.tsv line 5: expected query-id, corpus-id and a number that fits into 32 bits, separated by tabs, received "q1\\td1\\t1e39"; fix or remove/,
  },
  'candidates that the score file lacks': {
    set: ['teacher={kind: scores, files: {train: {}/teacher-scores-train.tsv}}', 'candidates.source=random'],
    says: /teacher-scores-train\.tsv has no score of the query 'q\d+' with the document 'd\d+' nor of \d+ other pairs; add them, use 'candidates\.source: given', or give a model as teacher/,
  },
  'an ONNX file cut short': {
    spoil: (folder) => truncateSync(join(folder, 'dual', 'onnx', 'model.onnx'), 9000),
    says: /dual\/onnx\/model\.onnx .*;/,
  },
  'an ONNX file that is none': {
    spoil: (folder) => write(folder, { 'cross/onnx/model.onnx': 'not a model' }),
    says: /cross\/onnx\/model\.onnx .*;/,
  },
  'a student that is not an encoder': {
    set: ['student.model={}/cross'],
    says: /cross\/onnx\/model\.onnx has the outputs logits: expected last_hidden_state or sentence_embedding; give a dual-encoder \(a feature-extraction model\), not a classifier/,
  },
  'a teacher that is not a cross-encoder': {
    set: ['teacher.model={}/dual'],
    says: /dual\/onnx\/model\.onnx has the outputs last_hidden_state.*: expected logits; give a cross-encoder/,
  },
  'an operator without a rule': {
    spoil: (folder) => changed(folder, (last) => last.op('Mystery', [])),
    says: /dual\/onnx\/model\.onnx: the operator Mystery \(making 'last_hidden_state'\) has no gradient rule; export the model without it/,
  },
  'a tokenizer of another model': {
    spoil: (folder) => {
      const file = join(folder, 'dual', 'tokenizer.json');
      const json = JSON.parse(readFileSync(file, 'utf8'));
      json.model.vocab.unheard = 4000;
      writeFileSync(file, JSON.stringify(json));
    },
    says: /the tokenizer of \S+\/dual has ids up to 4000: expected ids below \d+, the rows of the model's word table; use the tokenizer that the model was trained with/,
  },
  'a tokenizer that is none': {
    spoil: (folder) => write(folder, { 'cross/tokenizer.json': '[]' }),
    says: /cross\/tokenizer\.json is not a JSON object; save the tokenizer again/,
  },
  'layers that the model does not have': {
    set: ['student.layers=[0, 9]'],
    says: /9/,
  },
  'an output folder that holds something else': {
    spoil: (folder) => write(folder, { 'mine/thesis.txt': 'years of work' }),
    set: ['output={}/mine'],
    says: /'output': \S+\/mine holds something else \(thesis\.txt\): expected an empty folder, a new one, or that of an earlier run; choose another folder under 'output'/,
  },
  'an output that is a file': {
    set: ['output={}/distill.yaml'],
    says: /'output': \S+\/distill\.yaml is a file: expected an empty folder/,
  },
  'a checkpoint folder that holds something else': {
    spoil: (folder) => write(folder, { 'half/onnx-distill.json': '{}', 'half/checkpoint/model.pt': 'mine' }),
    set: ['output={}/half'],
    says: /'output': \S+\/half\/checkpoint holds something else than a checkpoint of onnx-distill: expected/,
  },
  'a cache that is not a folder': {
    set: ['cache={}/distill.yaml/cache'],
    says: /cannot use \S+\/distill\.yaml\/cache as a cache \(.*\); choose another folder under cache, or remove this one/,
  },
  'a --set that is none': {
    set: ['nonsense'],
    says: /--set 'nonsense': expected key=value; e\.g\. --set train\.epochs=2/,
  },
};

describe.each(Object.entries(cases))('%s', (_, { spoil, set, says }) => {
  test('is one sentence, and nothing is harmed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bad-'));
    cpSync(world, folder, { recursive: true });
    await spoil?.(folder);
    // What the run found before it came to the mistake is kept for the next one.
    const ignored = (name: string): boolean => /^cache\/|^out\/stages/.test(name);
    const kept = (files: Record<string, string>): Record<string, string> =>
      Object.fromEntries(Object.entries(files).filter(([name]) => !ignored(name)));
    const before = kept(snapshot(folder));
    const { code, out, err } = await run(folder, set);
    const message = err.slice(err.indexOf('error: '));
    expect(message).toMatch(/^error: [^\n]+\n$/);
    expect(message).toMatch(says);
    expect(err).not.toMatch(/\n\s+at |defect/);
    expect(out).toBe('');
    expect(code).toBe(2);
    expect(kept(snapshot(folder))).toEqual(before);
  });
});

test('a config that is not there', async () => {
  expect(await distill('run', 'nowhere.yaml')).toEqual({
    code: 2,
    out: '',
    err: '\nerror: there is no config nowhere.yaml; give the path of a YAML file; `distill init` writes one\n',
  });
});

test('--verbose shows the stack', async () => {
  const { err } = await distill('run', 'nowhere.yaml', '--verbose');
  expect(err).toMatch(/error: there is no config nowhere\.yaml.*\n.*\n\s+at /);
});
