/** @file A graph as linked objects: values know their producer and readers; only methods change the links. */
import { InputError } from '../../common/errors.ts';
import type { DType, Tensor } from './tensor.ts';

/** A dimension: a number, or the name of one that is only known when the graph runs. */
export type Dim = number | string;

/** An attribute of a node, of one of ONNX's kinds. */
export type Attribute =
  | { kind: 'int'; value: number }
  | { kind: 'float'; value: number }
  | { kind: 'string'; value: string }
  | { kind: 'ints'; value: readonly number[] }
  | { kind: 'floats'; value: readonly number[] }
  | { kind: 'strings'; value: readonly string[] }
  | { kind: 'tensor'; value: Tensor };

/** How attributes are given to a builder: whole numbers are ints, text is a string; `float(x)` marks a float. */
export type AttributeInput = number | string | readonly number[] | Tensor | Attribute;

/** Marks a number as a float attribute; plain numbers are ints. */
export const float = (value: number): Attribute => ({ kind: 'float', value });

function attribute(input: AttributeInput): Attribute {
  if (typeof input === 'number') return { kind: 'int', value: input };
  if (typeof input === 'string') return { kind: 'string', value: input };
  if (Array.isArray(input)) return { kind: 'ints', value: input as readonly number[] };
  if ('kind' in input) return input as Attribute;
  return { kind: 'tensor', value: input as Tensor };
}

/** One tensor of the graph: an input, a constant (initializer), or an output of a node. */
export class Value {
  name: string;
  dtype: DType | undefined;
  dims: readonly Dim[] | undefined;
  /** The node that makes it; null for inputs and constants. */
  producer: Node | null = null;
  /** The stored weights or constant, where it is one. */
  constant: Tensor | null;
  /** Written in its file as a Constant node (as exporters write numbers of the arithmetic) and not as an initializer. */
  inline = false;
  /** Whether gradients stop here: the value counts as constant (teacher inputs, weights, masks). */
  detached = false;
  /** Its readers: a node is listed once for each of its inputs that is this value. */
  readonly readers = new Set<Node>();

  constructor(name: string, type: { dtype?: DType; dims?: readonly Dim[]; constant?: Tensor } = {}) {
    this.name = name;
    this.dtype = type.dtype ?? type.constant?.dtype;
    this.dims = type.dims ?? type.constant?.dims;
    this.constant = type.constant ?? null;
  }
}

/** One operator application. An absent optional input is null. */
export class Node {
  readonly op: string;
  /** '' is ONNX's own domain. */
  readonly domain: string;
  name: string;
  readonly attributes: Map<string, Attribute>;
  outputs: readonly Value[];
  private links: (Value | null)[] = [];

  constructor(
    op: string,
    inputs: readonly (Value | null)[],
    outputs: readonly Value[],
    options: { domain?: string; name?: string; attributes?: Record<string, AttributeInput> } = {},
  ) {
    this.op = op;
    this.domain = options.domain ?? '';
    this.name = options.name ?? '';
    this.attributes = new Map(Object.entries(options.attributes ?? {}).map(([k, v]) => [k, attribute(v)]));
    this.outputs = outputs;
    for (const output of outputs) output.producer = this;
    this.setInputs(inputs);
  }

  get inputs(): readonly (Value | null)[] {
    return this.links;
  }

  /** Replaces all inputs and keeps the readers of the values right. */
  setInputs(inputs: readonly (Value | null)[]): void {
    for (const value of this.links) value?.readers.delete(this);
    this.links = [...inputs];
    for (const value of this.links) value?.readers.add(this);
  }

  /** Replaces an input at every position where it occurs. */
  replaceInput(from: Value, to: Value): void {
    this.setInputs(this.links.map((v) => (v === from ? to : v)));
  }

  /** An integer or float attribute. @param fallback its value where it is absent */
  int(name: string, fallback: number): number {
    const a = this.attributes.get(name);
    return a?.kind === 'int' || a?.kind === 'float' ? a.value : fallback;
  }

  /** An attribute of several integers; undefined where it is absent. */
  ints(name: string): readonly number[] | undefined {
    const a = this.attributes.get(name);
    return a?.kind === 'ints' ? a.value : undefined;
  }

  /** A float or integer attribute. @param fallback its value where it is absent */
  float(name: string, fallback: number): number {
    return this.int(name, fallback);
  }

  /** A text attribute. @param fallback its value where it is absent */
  string(name: string, fallback: string): string {
    const a = this.attributes.get(name);
    return a?.kind === 'string' ? a.value : fallback;
  }

  /** Its name in messages. */
  get title(): string {
    const op = this.domain ? `${this.domain}.${this.op}` : this.op;
    return this.name ? `${op} ('${this.name}')` : `${op} (making '${this.outputs.find(Boolean)?.name ?? '?'}')`;
  }
}

/** All that is known of a value but its name and links, on its copy. */
function marked(from: Value, to: Value): Value {
  [to.dtype, to.dims, to.inline, to.detached] = [from.dtype, from.dims, from.inline, from.detached];
  return to;
}

/** A graph with topologically sorted nodes. */
export class Graph {
  private inputList: Value[] = [];
  private outputList: Value[] = [];
  private nodeList: Node[] = [];
  /** Domain to version; '' is ONNX's own. */
  readonly opsets: Map<string, number>;
  /** The type of float constants in expressions. */
  float: 'float32' | 'float64' = 'float32';
  private readonly names = new Set<string>();
  private counter = 0;

  constructor(opset: number) {
    this.opsets = new Map([['', opset]]);
  }

  get opset(): number {
    return this.opsets.get('') ?? 0;
  }

  get inputs(): readonly Value[] {
    return this.inputList;
  }

  get outputs(): readonly Value[] {
    return this.outputList;
  }

  get nodes(): readonly Node[] {
    return this.nodeList;
  }

  /** An unused name derived from the requested one. */
  freshName(wish: string): string {
    let name = wish;
    while (!name || this.names.has(name)) name = `${wish}_${this.counter++}`;
    this.names.add(name);
    return name;
  }

  /** Adds an input. @param dims its shape; a name denotes a size known at run time */
  input(name: string, dtype: DType, dims: readonly Dim[]): Value {
    const value = new Value(this.freshName(name), { dtype, dims });
    this.inputList.push(value);
    return value;
  }

  /** Makes a constant an input, e.g. a weight that is trained. @returns the tensor it held */
  makeInput(value: Value): Tensor {
    const { constant } = value;
    if (!constant) throw new Error(`'${value.name}' is not a constant`);
    [value.dtype, value.dims, value.constant] = [constant.dtype, constant.dims, null];
    this.inputList.push(value);
    return constant;
  }

  /** Removes an input. @throws Error (a defect) where something still reads it */
  removeInput(value: Value): void {
    if (value.readers.size || this.outputList.includes(value)) throw new Error(`input '${value.name}' is still read`);
    this.inputList = this.inputList.filter((v) => v !== value);
  }

  /** Drops inputs that no node reads and that are not outputs. @param keep inputs that stay in any case */
  dropUnusedInputs(...keep: readonly Value[]): void {
    this.inputList = this.inputList.filter(
      (v) => v.readers.size > 0 || keep.includes(v) || this.outputList.includes(v),
    );
  }

  /** A constant (initializer) of the graph. @param name its name; a number is appended if it is taken */
  constant(constant: Tensor, name = 'constant'): Value {
    return new Value(this.freshName(name), { constant });
  }

  /** Appends a node with one output and returns it. */
  add(
    op: string,
    inputs: readonly (Value | null)[],
    attributes: Record<string, AttributeInput> = {},
    options: { name?: string; domain?: string } = {},
  ): Value {
    return this.addMany(op, inputs, 1, attributes, options)[0];
  }

  /** Appends a node with several outputs. */
  addMany(
    op: string,
    inputs: readonly (Value | null)[],
    outputs: number,
    attributes: Record<string, AttributeInput> = {},
    options: { name?: string; domain?: string } = {},
  ): Value[] {
    const values = Array.from({ length: outputs }, () => new Value(this.freshName(options.name ?? op)));
    this.nodeList.push(new Node(op, inputs, values, { attributes, ...options }));
    if (options.domain && !this.opsets.has(options.domain)) this.opsets.set(options.domain, 1);
    return values;
  }

  /** Adds omitted optional outputs to a node, e.g. the mean that LayerNormalization also computes. */
  extendOutputs(node: Node, count: number): readonly Value[] {
    const added = Array.from({ length: Math.max(0, count - node.outputs.length) }, () => {
      const value = new Value(this.freshName(`${node.outputs[0].name}_more`));
      value.producer = node;
      return value;
    });
    const present = node.outputs.map((v) => {
      if (!v.name) v.name = this.freshName(`${node.outputs[0].name}_more`);
      return v;
    });
    node.outputs = [...present, ...added];
    return node.outputs;
  }

  /** Adds an output. @param name renames the value */
  output(value: Value, name?: string): void {
    if (name && name !== value.name) value.name = this.freshName(name);
    this.outputList.push(value);
  }

  /** Replaces the outputs, in this order. Nodes that only the previous outputs needed stay until `prune`. */
  setOutputs(...values: readonly Value[]): void {
    this.outputList = [...values];
  }

  /** Appends a node that was made elsewhere, e.g. by a reader of files. */
  addNode(node: Node): void {
    this.nodeList.push(node);
  }

  /** Inserts nodes directly after another one. */
  insertAfter(place: Node, ...nodes: readonly Node[]): void {
    const at = this.nodeList.indexOf(place);
    if (at < 0) throw new Error(`${place.title} is not in the graph`);
    this.nodeList.splice(at + 1, 0, ...nodes);
  }

  /** Removes nodes and unlinks them from the values that they read. @throws Error (a defect) where an output is still read */
  removeNodes(gone: ReadonlySet<Node>): void {
    for (const node of gone) node.setInputs([]);
    for (const node of gone)
      for (const v of node.outputs)
        if (v.readers.size || this.outputList.includes(v))
          throw new Error(`'${v.name}', made by ${node.title}, is still read`);
    this.nodeList = this.nodeList.filter((n) => !gone.has(n));
  }

  /** Replaces nodes of one output by constants, e.g. Constant nodes and dequantised weights. */
  foldNodes(constants: ReadonlyMap<Node, Tensor>): void {
    for (const [node, constant] of constants) {
      const [value] = node.outputs;
      node.setInputs([]);
      value.producer = null;
      [value.dtype, value.dims, value.constant] = [constant.dtype, constant.dims, constant];
    }
    this.nodeList = this.nodeList.filter((n) => !constants.has(n));
  }

  /** Reorders the nodes. @throws Error (a defect) where they are not the same nodes */
  reorder(nodes: readonly Node[]): void {
    const own = new Set(this.nodeList);
    if (nodes.length !== own.size || new Set(nodes).size !== own.size || nodes.some((n) => !own.has(n)))
      throw new Error('an order of other nodes than those of the graph');
    this.nodeList = [...nodes];
  }

  /** The constants that some node or output reads, in the order of first use. */
  get constants(): Value[] {
    const seen = new Set<Value>();
    for (const node of this.nodes) for (const v of node.inputs) if (v?.constant) seen.add(v);
    for (const v of this.outputs) if (v.constant) seen.add(v);
    return [...seen];
  }

  /** Every value by name. */
  values(): Map<string, Value> {
    const all = new Map<string, Value>();
    for (const v of this.inputs) all.set(v.name, v);
    for (const v of this.constants) all.set(v.name, v);
    for (const node of this.nodes) for (const v of node.outputs) all.set(v.name, v);
    return all;
  }

  /** Redirects every reader of a value, and the outputs, to another value. */
  replace(from: Value, to: Value): void {
    for (const node of [...from.readers]) node.replaceInput(from, to);
    this.outputList = this.outputList.map((v) => (v === from ? to : v));
  }

  /** Replaces an output by another value under the same name; nodes that read the old value keep reading it. */
  replaceOutput(from: Value, to: Value): void {
    if (from === to || !this.outputList.includes(from)) return;
    const { name } = from;
    from.name = this.freshName(`${name}_before`);
    to.name = name;
    this.outputList = this.outputList.map((v) => (v === from ? to : v));
  }

  /** Drops nodes that no output needs, and inputs that nothing reads. */
  dropUnused(): void {
    this.prune();
    this.dropUnusedInputs();
  }

  /** Drops nodes that no output needs. @returns whether any was dropped */
  prune(): boolean {
    const needed = new Set<Node>();
    const stack = this.outputs.map((v) => v.producer);
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (!node || needed.has(node)) continue;
      needed.add(node);
      for (const v of node.inputs) if (v?.producer) stack.push(v.producer);
    }
    const before = this.nodeList.length;
    for (const node of this.nodeList) if (!needed.has(node)) node.setInputs([]);
    this.nodeList = this.nodeList.filter((n) => needed.has(n));
    return this.nodeList.length !== before;
  }

  /** Sorts nodes topologically, keeping the current order where possible. */
  sort(): void {
    const sorted: Node[] = [];
    const state = new Map<Node, 'open' | 'done'>();
    for (const root of this.nodes) {
      const stack: Node[] = [root];
      while (stack.length) {
        const node = stack[stack.length - 1];
        if (state.get(node) === 'done') stack.pop();
        else if (state.get(node) === 'open') {
          state.set(node, 'done');
          sorted.push(node);
          stack.pop();
        } else {
          state.set(node, 'open');
          for (let i = node.inputs.length - 1; i >= 0; i--) {
            const producer = node.inputs[i]?.producer;
            if (producer && state.get(producer) === 'open')
              throw new InputError({ code: 'graph.cycle', subject: `the graph has a cycle through ${producer.title}` });
            if (producer && !state.has(producer)) stack.push(producer);
          }
        }
      }
    }
    this.nodeList = sorted;
  }

  /** Copies nodes of another graph into this one. `bind` maps its inputs and constants to values of this graph. */
  embed(
    source: Pick<Graph, 'nodes' | 'outputs' | 'opsets'>,
    bind: (value: Value) => Value | undefined,
    prefix = '',
  ): Map<Value, Value> {
    const map = new Map<Value, Value>();
    const here = (v: Value | null): Value | null => {
      if (!v) return null;
      let copy = map.get(v);
      if (!copy) {
        copy = bind(v);
        if (!copy && v.constant) copy = marked(v, this.constant(v.constant, prefix + v.name));
        if (!copy)
          throw new InputError({
            code: 'graph.unbound',
            subject: `no value is bound to input '${v.name}' of the embedded graph`,
          });
        map.set(v, copy);
      }
      return copy;
    };
    for (const [domain, version] of source.opsets) if (!this.opsets.has(domain)) this.opsets.set(domain, version);
    for (const node of source.nodes) {
      const outputs = node.outputs.map((v) => {
        const name = v.name ? this.freshName(prefix + v.name) : '';
        const copy = marked(v, new Value(name));
        map.set(v, copy);
        return copy;
      });
      const copy = new Node(node.op, node.inputs.map(here), outputs, {
        domain: node.domain,
        name: node.name && prefix + node.name,
      });
      for (const [k, a] of node.attributes) copy.attributes.set(k, a);
      this.nodeList.push(copy);
    }
    for (const v of source.outputs) here(v);
    return map;
  }

  /** A copy that shares only the constants' arrays. */
  clone(): Graph {
    const copy = new Graph(this.opset);
    copy.opsets.clear();
    for (const [domain, version] of this.opsets) copy.opsets.set(domain, version);
    copy.float = this.float;
    const inputs = new Map(
      this.inputs.map((v) => [v, marked(v, copy.input(v.name, v.dtype ?? 'float32', v.dims ?? []))]),
    );
    const map = copy.embed(this, (v) => inputs.get(v));
    copy.setOutputs(...this.outputs.map((v) => map.get(v) as Value));
    return copy;
  }
}
