/** @file Generated data of the demo: listings of things for sale, and searches that describe them in other words. */
import { Random } from '../math/random.ts';
import { bm25 } from '../retrieval/bm25.ts';

/** Size and seed of the demo's world. */
export interface WorldOptions {
  seed?: number;
  documents?: number;
  /** Queries of each split. */
  train?: number;
  dev?: number;
  test?: number;
}

/** The demo's texts and judgements. */
export interface World {
  documents: { id: string; text: string }[];
  queries: { id: string; text: string }[];
  /**
   * Query id to relevant document ids. Dev and test searches are labelled with all of them, a training search with the one
   * listing that somebody chose, now and then a wrong one among those that word search shows first.
   */
  qrels: Record<'train' | 'dev' | 'test', Map<string, string[]>>;
}

/** What listings say, and what searches also say for it. */
type Word = readonly [listing: string, ...searches: string[]];

const kinds: readonly Word[] = [
  ['sofa', 'couch'], ['lamp', 'light'], ['cupboard', 'cabinet'], ['rug', 'carpet'], ['bucket', 'pail'], ['coat', 'jacket'],
  ['cap', 'hat'], ['bicycle', 'bike'], ['satchel', 'bag'], ['boots', 'shoes'], ['mug', 'cup'], ['curtain', 'drapes'],
  ['kettle', 'teapot'], ['stool', 'seat'], ['chest', 'trunk'], ['tent', 'shelter'],
]; // biome-ignore format: a table
const parts: readonly Word[] = [
  ['handle', 'grip'], ['lid', 'cover'], ['strap', 'band'], ['lining', 'inside'], ['border', 'edge'], ['button', 'knob'],
  ['base', 'bottom'], ['pocket', 'pouch'], ['frame', 'body'], ['hook', 'hanger'], ['label', 'tag'], ['cord', 'string'],
]; // biome-ignore format: a table
const looks: readonly Word[] = [
  ['crimson', 'red'], ['azure', 'blue'], ['ivory', 'white'], ['ebony', 'black'], ['amber', 'yellow'], ['jade', 'green'],
  ['ash', 'grey'], ['rose', 'pink'], ['chestnut', 'brown'], ['violet', 'purple'], ['oak', 'wooden'], ['brass', 'metal'],
  ['satin', 'silky'], ['denim', 'cotton'], ['hide', 'leather'], ['dotted', 'spotted'], ['ribbed', 'striped'],
  ['glossy', 'shiny'], ['faded', 'pale'], ['torn', 'ripped'],
]; // biome-ignore format: a table
const weights: readonly Word[] = [
  ['1 kg', '1000 g'], ['2 kg', '2000 g'], ['3 kg', '3000 g'], ['5 kg', '5000 g'],
]; // biome-ignore format: a table

/** The share of training labels that are wrong, as labels taken from clicks are: people choose among what is shown. */
const MISTAKEN = 0.3;
/** How many listings word search shows. */
const SHOWN = 8;

interface Thing {
  kind: number;
  parts: { part: number; look: number }[];
  weight: number;
}

/** What a search asks for; absent parts of it do not matter. */
interface Wish {
  kind: number;
  has: { part: number; look: number }[];
  without?: number;
  weight?: number;
}

/** Listings and searches of a seed. */
export async function makeWorld({
  seed = 0,
  documents = 1200,
  train = 3000,
  dev = 100,
  test = 300,
}: WorldOptions = {}): Promise<World> {
  const random = Random.of(seed, 'world');
  const things: Thing[] = [];
  while (things.length < documents) {
    const thing = randomThing(random);
    // Near misses: the same words, other bindings.
    things.push(thing, turned(thing), altered(thing, random));
  }
  random.shuffle(things);
  things.length = documents;
  const world: World = {
    documents: things.map((t, i) => ({ id: `d${i}`, text: describe(t) })),
    queries: [],
    qrels: { train: new Map(), dev: new Map(), test: new Map() },
  };
  const index = await bm25({ length: documents, text: (i) => world.documents[i].text });
  /** The listing that a search was made for, or a wrong one. */
  const chosen = (target: number, wish: Wish, text: string): number => {
    if (random.uniform() >= MISTAKEN) return target;
    const shown = [...index.search(text, SHOWN).indices].filter((i) => !fulfils(things[i], wish));
    return shown.length ? pick(shown, random) : target;
  };
  const seen = new Set<string>();
  for (const [split, count] of [
    ['train', train],
    ['dev', dev],
    ['test', test],
  ] as const)
    while (world.qrels[split].size < count) {
      const target = random.integer(things.length);
      const wish = wishFor(things[target], random);
      const text = ask(wish, random);
      const relevant = things.flatMap((t, i) => (fulfils(t, wish) ? [`d${i}`] : []));
      if (seen.has(text) || relevant.length > 5) continue;
      seen.add(text);
      const id = `q${world.queries.length}`;
      world.queries.push({ id, text });
      world.qrels[split].set(id, split === 'train' ? [`d${chosen(target, wish, text)}`] : relevant);
    }
  return world;
}

const pick = <T>(items: readonly T[], random: Random): T => items[random.integer(items.length)];

function randomThing(random: Random): Thing {
  const some = random.shuffle(parts.map((_, i) => i)).slice(0, 4);
  return {
    kind: random.integer(kinds.length),
    parts: some.map((part) => ({ part, look: random.integer(looks.length) })),
    weight: random.integer(weights.length),
  };
}

/** The same words, each look at the next part. */
const turned = (t: Thing): Thing => ({
  ...t,
  parts: t.parts.map(({ part }, i) => ({ part, look: t.parts[(i + 1) % t.parts.length].look })),
});

/** Two looks and the weight are others. */
const altered = (t: Thing, random: Random): Thing => ({
  ...t,
  parts: t.parts.map((p, i) => (i % 2 ? p : { ...p, look: random.integer(looks.length) })),
  weight: random.integer(weights.length),
});

const describe = (t: Thing): string =>
  `${kinds[t.kind][0]} with ${t.parts.map((p) => `${looks[p.look][0]} ${parts[p.part][0]}`).join(' , ')} , ${weights[t.weight][0]}`;

function wishFor(t: Thing, random: Random): Wish {
  const absent = parts.map((_, i) => i).filter((i) => !t.parts.some((p) => p.part === i));
  const [a, b] = random.shuffle([...t.parts]);
  switch (random.integer(3)) {
    case 0:
      return { kind: t.kind, has: [a, b] };
    case 1:
      return { kind: t.kind, has: [a, b], weight: t.weight };
    default:
      return { kind: t.kind, has: [a], without: pick(absent, random), weight: t.weight };
  }
}

/** A search: each word as listings have it or another one for it. */
function ask(wish: Wish, random: Random): string {
  const say = (word: Word): string => pick(word, random);
  return [
    say(kinds[wish.kind]),
    `with ${wish.has.map((p) => `${say(looks[p.look])} ${say(parts[p.part])}`).join(' and ')}`,
    ...(wish.without === undefined ? [] : [`without ${say(parts[wish.without])}`]),
    ...(wish.weight === undefined ? [] : [`, ${say(weights[wish.weight])}`]),
  ].join(' ');
}

type Part = Thing['parts'][number];
const same = (a: Part, b: Part): boolean => a.part === b.part && a.look === b.look;

const fulfils = (t: Thing, wish: Wish): boolean =>
  t.kind === wish.kind &&
  (wish.weight === undefined || t.weight === wish.weight) &&
  wish.has.every((w) => t.parts.some((p) => same(p, w))) &&
  (wish.without === undefined || !t.parts.some((p) => p.part === wish.without));
