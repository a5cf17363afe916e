/** @file Splits a text at matches, and handles the matched parts. */
import { shown, unsupported } from '../base/fields.ts';
import { characterKinds, unitsOf } from '../base/unicode.ts';

const behaviors = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const;
export type Behavior = (typeof behaviors)[number];

export function readBehavior(value: unknown, what: string): Behavior {
  const found = behaviors.find((b) => b === value);
  if (found) return found;
  throw unsupported(`behavior ${shown(value)} of ${what} is not supported (${behaviors.join(', ')} are)`);
}

/** The parts that a text is cut into. */
export interface Cuts {
  readonly texts: string[];
  /** Begin and end of each in the text that is cut, where they are asked for. */
  readonly places?: number[] | undefined;
}

export function addPart({ texts, places }: Cuts, text: string, from: number, to: number): void {
  if (from >= to) return;
  texts.push(from === 0 && to === text.length ? text : text.slice(from, to));
  places?.push(from, to);
}

/**
 * Adds the parts of a text that are not empty.
 * @param found begins and ends of what was looked for, one after the other
 * @param invert the matches are the parts that are kept, and the rest separates them
 */
export function splitAt(text: string, found: readonly number[], behavior: Behavior, invert: boolean, out: Cuts): void {
  // Segments that cover the text: [begin, end, whether it separates].
  const segments: number[] = [];
  let at = 0;
  for (let i = 0; i < found.length; i += 2) {
    if (at !== found[i]) segments.push(at, found[i], invert ? 1 : 0);
    segments.push(found[i], found[i + 1], invert ? 0 : 1);
    at = found[i + 1];
  }
  if (at !== text.length) segments.push(at, text.length, invert ? 1 : 0);
  const add = (from: number, to: number): void => addPart(out, text, from, to);
  if (behavior === 'Removed') {
    for (let i = 0; i < segments.length; i += 3) if (!segments[i + 2]) add(segments[i], segments[i + 1]);
  } else if (behavior === 'Isolated') for (let i = 0; i < segments.length; i += 3) add(segments[i], segments[i + 1]);
  else for (const [from, to] of joined(segments, behavior)) add(from, to);
}

function joined(segments: readonly number[], behavior: Behavior): [number, number][] {
  const parts: [number, number][] = [];
  let previous = 0;
  const backwards = behavior === 'MergedWithNext';
  for (let k = 0; k < segments.length; k += 3) {
    const i = backwards ? segments.length - 3 - k : k;
    const [from, to, separates] = [segments[i], segments[i + 1], segments[i + 2]];
    const last = parts.at(-1);
    const joins = behavior === 'Contiguous' ? separates === previous : separates && !previous;
    if (joins && last) {
      if (backwards) last[0] = from;
      else last[1] = to;
    } else parts.push([from, to]);
    previous = separates;
  }
  return backwards ? parts.reverse() : parts;
}

/** The same where every character of a kind is looked for. */
export function splitByKind(text: string, kind: number, behavior: Behavior, out: Cuts): void {
  const kinds = characterKinds();
  const simple = behavior === 'Removed' || behavior === 'Isolated';
  const found: number[] = [];
  let from = 0;
  for (let i = 0; i < text.length; ) {
    const code = text.codePointAt(i) as number;
    const next = i + unitsOf(code);
    if (kinds[code] & kind) {
      if (simple) {
        addPart(out, text, from, i);
        if (behavior === 'Isolated') addPart(out, text, i, next);
        from = next;
      } else found.push(i, next);
    }
    i = next;
  }
  if (!simple) splitAt(text, found, behavior, false, out);
  else addPart(out, text, from, text.length);
}
