/** @file Positions by id, in typed arrays: a million ids take 8 MB and are there in a fraction of a second. */

/** An open-addressed table of positions; ids themselves stay where they are. Of one id the position that was set last counts. */
export class IdTable {
  private slots = new Int32Array(64);
  private used = 0;
  private readonly idAt: (position: number) => Uint8Array;

  /** @param idAt UTF-8 of the id at a position */
  constructor(idAt: (position: number) => Uint8Array) {
    this.idAt = idAt;
  }

  set(position: number): void {
    if (2 * (this.used + 1) > this.slots.length) this.grow(4 * this.slots.length);
    const slot = this.slotOf(this.idAt(position));
    if (!this.slots[slot]) this.used++;
    this.slots[slot] = position + 1;
  }

  get(id: string): number | undefined {
    const at = this.slots[this.slotOf(Buffer.from(id))];
    return at ? at - 1 : undefined;
  }

  /** Room for so many ids. */
  reserve(ids: number): void {
    let size = this.slots.length;
    while (size < 2 * (ids + 1)) size *= 2;
    if (size > this.slots.length) this.grow(size);
  }

  /** Where an id is, or the empty slot where it would be. */
  private slotOf(id: Uint8Array): number {
    const mask = this.slots.length - 1;
    for (let slot = hashOf(id) & mask; ; slot = (slot + 1) & mask) {
      const at = this.slots[slot];
      if (!at || same(this.idAt(at - 1), id)) return slot;
    }
  }

  private grow(size: number): void {
    const before = this.slots;
    this.slots = new Int32Array(size);
    for (const at of before) if (at) this.slots[this.slotOf(this.idAt(at - 1))] = at;
  }
}

/** FNV-1a with its bits mixed, since only the last ones choose the slot. */
function hashOf(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i], 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
