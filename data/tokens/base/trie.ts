/** @file Texts by their prefixes, in flat arrays: some 16 bytes a node, and no objects to collect. */

export class Trie {
  /** Value of the text that ends at a node; -1 where none ends. */
  private values = new Int32Array(1024).fill(-1);
  private parents = new Int32Array(1024);
  private units = new Uint16Array(1024);
  /** Nodes by parent and unit, open addressing; 0 is a free place, since the root is nobody's child. */
  private table = new Int32Array(4096);
  private nodes = 1;

  /** @param value not negative; that of the text's first insertion stays where `keep` is set */
  set(text: string, value: number, keep = false): void {
    let node = 0;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      const next = this.child(node, unit);
      node = next || this.add(node, unit);
    }
    if (!keep || this.values[node] < 0) this.values[node] = value;
  }

  /** The node reached from another one by a UTF-16 unit, 0 where there is none. The root is 0. */
  child(node: number, unit: number): number {
    const { table, parents, units } = this;
    const mask = table.length - 1;
    for (let at = hash(node, unit) & mask; ; at = (at + 1) & mask) {
      const found = table[at];
      if (found === 0) return 0;
      if (parents[found] === node && units[found] === unit) return found;
    }
  }

  /** The value of the text up to a node, -1 if there is none. */
  value(node: number): number {
    return this.values[node];
  }

  /** The longest text of the trie that begins at a place: [its end, its value], or undefined. */
  longest(text: string, from: number): [number, number] | undefined {
    let found: [number, number] | undefined;
    for (let i = from, node = 0; i < text.length; ) {
      node = this.child(node, text.charCodeAt(i++));
      if (!node) break;
      if (this.values[node] >= 0) found = [i, this.values[node]];
    }
    return found;
  }

  private add(parent: number, unit: number): number {
    if (this.nodes === this.values.length) this.grow();
    const node = this.nodes++;
    this.parents[node] = parent;
    this.units[node] = unit;
    if (this.nodes * 2 > this.table.length) {
      this.table = new Int32Array(this.table.length * 2);
      for (let n = 1; n < this.nodes; n++) this.place(n);
    } else this.place(node);
    return node;
  }

  private place(node: number): void {
    const mask = this.table.length - 1;
    let at = hash(this.parents[node], this.units[node]) & mask;
    while (this.table[at]) at = (at + 1) & mask;
    this.table[at] = node;
  }

  private grow(): void {
    const size = this.values.length * 2;
    const values = new Int32Array(size).fill(-1);
    values.set(this.values);
    const parents = new Int32Array(size);
    parents.set(this.parents);
    const units = new Uint16Array(size);
    units.set(this.units);
    [this.values, this.parents, this.units] = [values, parents, units];
  }
}

/** Spreads two small numbers over 32 bits. */
export function hash(a: number, b: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
