/**
 * @file From a cross-encoder, an encoder and text to a family of students, each a run of its own:
 *
 * 1. `assistant`: a dual-encoder of all layers, distilled from the cross-encoder. A dual-encoder of the user's own (`embedder`)
 *    takes its place.
 * 2. `query`: a small query tower over the assistant's documents, taught by their embeddings of queries and of spans.
 * 3. `static`: a query tower without a transformer, over the same documents.
 *
 * Each is measured with and without BM25, and one table shows the family.
 */
import { InputError } from '../common/errors.ts';
import type { ChainPart } from '../config/chain.ts';
import { localModel } from '../config/models.ts';
import { parseConfig } from '../config/parse.ts';
import { chainOptions } from '../config/recipes/chain-recipes.ts';
import { type Effort, effortOf } from '../config/recipes/effort.ts';
import { startFolder } from '../config/student.ts';
import { isGenerated, judgedQueries, type Texts } from '../data/dataset.ts';
import { listsNegatives } from '../data/relevant.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import type { RunReport } from '../evaluation/runs/run-report.ts';
import { mean } from '../math/numbers.ts';
import type { RunContext } from '../run/context.ts';
import { trainingQueries } from '../run/data.ts';
import { lazily, type Result } from '../run/stages/stage.ts';
import { crossToDual } from './cross-to-dual.ts';
import { publishFamily } from './publish/family.ts';
import type { Published } from './publish/report-stage.ts';

export async function chain(run: RunContext): Promise<Published> {
  const { config } = run;
  const dataset = await run.data.training.value();
  const { train, dev } = config.data.splits;
  // Queries that a language model will write come with their documents.
  const { generate } = config;
  const { calls = dataset.documents.length } = generate?.budget ?? {};
  const written =
    generate?.kind === 'chat' ? Math.min(generate.count, generate.each * Math.min(calls, dataset.documents.length)) : 0;
  const data = {
    queries: trainingQueries(config, dataset).length + written,
    labelled: judgedQueries(dataset, train).length + written > 0,
    generatedTrain: isGenerated(dataset, train),
    generatedDev: isGenerated(await run.data.dev.value(), dev),
    listed: listsNegatives(dataset, train),
    effort: await effortFor(run, dataset.documents),
  };
  if (!data.labelled && !config.teacher && !config.embedder && config.chain?.assistant !== false)
    throw new InputError({
      code: 'chain.no-supervision',
      subject: `the split '${train}' judges no query and there is no teacher`,
      remedy: "add judgements (qrels), a 'teacher' that scores, or an 'embedder' that takes the assistant's place",
    });
  if (config.data.splits.dev === null)
    run.note(
      "There is no dev split ('data.splits.dev' is null): students are what the last step gives, the trained weights could not be compared with those before, and BM25 is not combined with them unless 'hybrid.weight' is a number",
    );
  const members: Partial<Record<ChainPart, Published>> = {};
  /** One run of the chain under its name, after the runs whose folders it reads. */
  const part = async (name: ChainPart, embedder?: string, after?: Published): Promise<Published | undefined> => {
    const options = chainOptions(config, name, data, embedder);
    if (!options) return undefined;
    const inner = parseConfig({ ...options, output: run.path(name) }, `chain.${name}`);
    let published: Published | undefined;
    const checkpoint = await run.runInside(
      name,
      inner,
      async (own) => {
        published = await crossToDual(own, { serves: name === 'assistant' && serves });
        return published.checkpoint;
      },
      after && [after.checkpoint],
    );
    // A dry run that cannot look into this one knows its folder and nothing of what is in it.
    published ??= { checkpoint, report: unknown() };
    members[name] = published;
    return published;
  };

  const serves = [config.chain?.query, config.chain?.static].some((tower) => tower !== false);
  const assistant = config.embedder ? undefined : await part('assistant');
  const embedder = localModel(config.embedder) ?? (assistant && run.path('assistant', 'checkpoint'));
  if (embedder) {
    await part('query', embedder, assistant);
    await part('static', embedder, assistant);
  }
  if (!Object.keys(members).length)
    throw new InputError({
      code: 'chain.empty',
      subject: 'every run of the chain is left out',
      remedy:
        "leave at least one of 'chain.assistant', 'chain.query' and 'chain.static' in; the last two need documents: an assistant or an 'embedder'",
    });
  return publishFamily(run, members);
}

/** Documents whose length is looked at. */
const SAMPLED = 500;

/** How much work the runs take on this machine, by the length of the documents. */
async function effortFor({ config }: RunContext, documents: Texts): Promise<Effort> {
  const { provider } = await computeOn(config.train);
  const effort = config.chain?.effort ?? (provider === 'cpu' ? 'small' : 'large');
  const folder = startFolder(config.student) ?? localModel(config.embedder);
  if (effort === 'large' || !folder || !documents.length) return effortOf(effort, 0);
  const tokenizer = await TextTokenizer.load(folder);
  const step = Math.max(1, Math.floor(documents.length / SAMPLED));
  const lengths: number[] = [];
  for (let d = 0; d < documents.length; d += step)
    lengths.push(tokenizer.encode(documents.text(d), config.student.documentTokens).ids.length);
  return effortOf(effort, mean(lengths));
}

const unknown = (): Result<RunReport> =>
  lazily({}, false, () => Promise.reject(new Error('a dry run makes no report')));
