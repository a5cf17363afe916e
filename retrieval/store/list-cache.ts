/** @file Posting lists of open indexes that were searched last: ready for a search, of all indexes of the process together. */
import type { RankedList } from '../pruned-search.ts';

/** Bytes of lists that stay in memory. */
const CACHED = 64 << 20;
/** Bytes of an entry in addition to its postings, and the tables of its windows as a share of them. */
const [ENTRY, WINDOWS] = [256, 1.2];

interface Entry {
  readonly own: Map<string, Entry>;
  readonly term: string;
  readonly list: RankedList;
  readonly bytes: number;
}

/** From the one that was used longest ago. */
const used = new Set<Entry>();
let bytes = 0;

function leave(entry: Entry): void {
  used.delete(entry);
  entry.own.delete(entry.term);
  bytes -= entry.bytes;
}

/** Lists by term. */
export class ListCache {
  private readonly own = new Map<string, Entry>();

  get(term: string): RankedList | undefined {
    const entry = this.own.get(term);
    if (!entry) return undefined;
    used.delete(entry);
    used.add(entry);
    return entry.list;
  }

  put(term: string, list: RankedList): void {
    const { places, impacts } = list;
    const size = ENTRY + 2 * term.length + WINDOWS * (places.byteLength + impacts.byteLength);
    const entry = { own: this.own, term, list, bytes: size };
    this.own.set(term, entry);
    used.add(entry);
    bytes += size;
    for (const oldest of used) {
      if (bytes <= CACHED) break;
      leave(oldest);
    }
  }

  clear(): void {
    for (const entry of this.own.values()) leave(entry);
  }
}
