/**
 * @file Runs a static query tower: text to vector by look-up and sum, without a model runtime, in Node and in browsers.
 *
 * e = normalise(sum of g_i * scale_t * row_t over the text's tokens t, at places i)
 *
 * where g_i is 1, or in a file with a gate 1 + tanh(<a(t), b(token before)> + <c(t), d(token after)>).
 *
 * @example
 * const encoder = new StaticEncoder(await readFile('static.safetensors')); // in a browser: await response.arrayBuffer()
 * const vector = encoder.embed('how do I install a kernel module');
 */

interface Header {
  __metadata__: Record<string, string>;
  rows: { shape: [number, number]; data_offsets: [number, number] };
  scales: { data_offsets: [number, number] };
  gates?: Header['rows'];
  gate_scales?: Header['scales'];
}

/** a, c, b and d of each token, [vocabulary, 4 rank], with a scale each. */
interface Gates {
  rank: number;
  codes: Int8Array;
  scales: Float32Array;
}

interface Tokenizer {
  lowercase: boolean;
  stripAccents: boolean;
  maxTokens: number;
  prefix: string;
  special: string[];
  before: number[];
  after: number[];
}

/** Prefix and suffix of queries and documents; absent in files of models without prompts. */
type Prompts = { query?: [before: string, after: string]; document?: [before: string, after: string] };

/** What is wrong where a file is whole and asks for more than this version has. */
class Unknown extends Error {}

/** @throws Unknown where a file needs something that this version does not know: without it, vectors would be others */
function refuseUnknown({ format = '', needs = '[]' }: Record<string, string>, arrays: string[]): { gate: boolean } {
  if (!format.startsWith(FORMAT)) throw new Error('another format');
  const needed: string[] = JSON.parse(needs);
  const gate = needed.includes('gate');
  const known = ['rows', 'scales', ...(gate ? ['gates', 'gate_scales'] : [])];
  const unknown = [
    ...(['1', '2'].includes(format.slice(FORMAT.length)) ? [] : [`the format ${format}`]),
    ...needed.filter((n) => n !== 'gate'),
    ...arrays.filter((name) => !known.includes(name)).map((name) => `the array '${name}'`),
  ];
  if (unknown.length)
    throw new Unknown(
      `the file is not a static encoder of onnx-distill that this version can read: it needs ${unknown.join(', ')}; update onnx-distill, or export the student with this version`,
    );
  return { gate };
}

/** Reads a file and checks its sizes against its bytes. */
function contentOf(file: ArrayBuffer | Uint8Array) {
  try {
    const bytes = new Uint8Array(file instanceof Uint8Array ? file.slice() : file); // aligned
    const body = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const { __metadata__: meta, ...arrays }: Header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, body)));
    const { gate } = refuseUnknown(meta, Object.keys(arrays));
    const [vocabulary, dimensions] = arrays.rows.shape;
    const data = ({ data_offsets: [from, to] }: Header['scales'], size: number): ArrayBuffer => {
      if (!(size > 0 && from >= 0 && to - from === size && body + to <= bytes.length)) throw new Error('cut short');
      return bytes.buffer.slice(body + from, body + to);
    };
    const rows = new Int8Array(data(arrays.rows, vocabulary * dimensions));
    const scales = new Float32Array(data(arrays.scales, 4 * vocabulary));
    let gates: Gates | undefined;
    if (gate) {
      const { gates: codes, gate_scales } = arrays as Required<typeof arrays>;
      const [height, width] = codes.shape;
      if (height !== vocabulary || !(width > 0 && width % 4 === 0)) throw new Error('a gate of another shape');
      gates = {
        rank: width / 4,
        codes: new Int8Array(data(codes, vocabulary * width)),
        scales: new Float32Array(data(gate_scales, 16 * vocabulary)),
      };
    }
    const tokenizer: Tokenizer = JSON.parse(meta.tokenizer);
    const prompts: Prompts = JSON.parse(meta.prompts ?? '{}');
    const lists = [tokenizer.special, tokenizer.before, tokenizer.after];
    if (!lists.every(Array.isArray) || typeof meta.pieces !== 'string') throw new Error('another format');
    return { rows, scales, gates, dimensions, meta, tokenizer, prompts };
  } catch (cause) {
    if (cause instanceof Unknown) throw new Error(cause.message);
    throw new Error('the file is not a static encoder of onnx-distill, or is incomplete', { cause });
  }
}

const FORMAT = 'onnx-distill-static-';

const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const INVISIBLE = /[^\P{C}\t\n\r]|\ufffd/gu;
const WORDS = /[^\s\p{P}$+<=>^`|~]+|[\p{P}$+<=>^`|~]/gu;
const LONGEST_WORD = 100;

/** A static query tower in memory: sums the rows of the tokens and normalizes the result. */
export class StaticEncoder {
  /** Width of the vectors. */
  readonly dimensions: number;
  private readonly ids: Map<string, number>;
  private readonly rows: Int8Array; // [vocabulary, dimensions]
  private readonly scales: Float32Array; // [vocabulary]
  private readonly gates: Gates | undefined;
  private readonly options: { lowercase: boolean; stripAccents: boolean; maxTokens: number; prefix: string };
  private readonly special: RegExp | undefined;
  private readonly around: [before: number[], after: number[]];
  private readonly unknown: number;
  private readonly prompts: Prompts;

  /**
   * @param file the bytes of what `distill export --dtype static-int8` writes: safetensors with rows, scales and pieces
   * @throws Error if the bytes are another format or truncated, or need what this version does not know
   */
  constructor(file: ArrayBuffer | Uint8Array) {
    const { rows, scales, gates, dimensions, meta, tokenizer, prompts } = contentOf(file);
    this.prompts = prompts;
    this.gates = gates;
    [this.rows, this.scales, this.dimensions] = [rows, scales, dimensions];
    this.ids = new Map(meta.pieces.split('\n').map((piece, id) => [piece, id]));
    this.unknown = this.ids.get(meta.unknown) ?? 0;
    const { lowercase, stripAccents, maxTokens, prefix, special, before, after } = tokenizer;
    this.options = { lowercase, stripAccents, maxTokens, prefix };
    this.around = [before, after];
    const escaped = special.map((s) => String(s).replace(/[^\w]/g, '\\$&'));
    this.special = escaped.length ? new RegExp(`(${escaped.join('|')})`) : undefined;
  }

  /** Ids as BERT's tokenizer gives them, with special tokens, truncated to the maximum length. */
  tokenize(text: string): number[] {
    const ids = this.terms(text);
    const [before, after] = this.around;
    return [...before, ...ids.slice(0, Math.max(0, this.options.maxTokens - before.length - after.length)), ...after];
  }

  /** The ids of a whole text, without the special tokens around it: terms for a search by words. */
  terms(text: string): number[] {
    const ids: number[] = [];
    for (const part of this.special ? text.split(this.special) : [text]) {
      const known = this.special?.test(part) ? this.ids.get(part) : undefined;
      if (known !== undefined) ids.push(known);
      else for (const [word] of this.normalize(part).matchAll(WORDS)) this.pieces(word, ids);
    }
    return ids;
  }

  /**
   * @param text or its token ids, which are used unchanged
   * @param role whose prompt is added to the text, where the file has prompts
   * @returns a vector of unit length; all zeros where no token has a row
   */
  embed(text: string | ArrayLike<number>, role: 'query' | 'document' = 'query'): Float32Array {
    const { rows, scales, dimensions: D } = this;
    const [before, after] = this.prompts[role] ?? ['', ''];
    const ids = typeof text === 'string' ? this.tokenize(before + text + after) : text;
    const sum = new Float32Array(D);
    for (let i = 0; i < ids.length; i++) {
      const scale = scales[ids[i]] * this.gate(ids, i);
      const at = ids[i] * D;
      if (scale) for (let d = 0; d < D; d++) sum[d] += scale * rows[at + d];
    }
    let square = 0;
    for (let d = 0; d < D; d++) square += sum[d] * sum[d];
    const factor = square ? 1 / Math.sqrt(square) : 0;
    for (let d = 0; d < D; d++) sum[d] *= factor;
    return sum;
  }

  /** How much the token at a place counts, by its neighbours: from 0 to 2, and 1 in files without a gate. */
  private gate(ids: ArrayLike<number>, i: number): number {
    if (!this.gates) return 1;
    const { rank, codes, scales } = this.gates;
    let sum = 0;
    for (let side = 0; side < 2; side++) {
      const hears = 4 * ids[i] + side;
      const says = 4 * ids[side ? i + 1 : i - 1] + 2 + side;
      // Beyond the ends of the text there is no token and no scale.
      const scale = scales[hears] * (scales[says] ?? 0);
      let product = 0;
      if (scale) for (let k = 0; k < rank; k++) product += codes[hears * rank + k] * codes[says * rank + k];
      sum += scale * product;
    }
    return 1 + Math.tanh(sum);
  }

  private normalize(text: string): string {
    let out = text.replace(INVISIBLE, '').replace(CHINESE, ' $& ');
    if (this.options.stripAccents) out = out.normalize('NFD').replace(/\p{Mn}/gu, '');
    return this.options.lowercase ? out.toLowerCase() : out;
  }

  /** Longest piece first; a word that the pieces do not cover becomes one unknown token. */
  private pieces(word: string, ids: number[]): void {
    const characters = [...word];
    if (characters.length > LONGEST_WORD) {
      ids.push(this.unknown);
      return;
    }
    const begin = ids.length;
    for (let at = 0, end = 0; at < characters.length; at = end) {
      let id: number | undefined;
      for (end = characters.length; end > at; end--) {
        id = this.ids.get((at ? this.options.prefix : '') + characters.slice(at, end).join(''));
        if (id !== undefined) break;
      }
      if (id === undefined) {
        ids.length = begin;
        ids.push(this.unknown);
        return;
      }
      ids.push(id);
    }
  }
}
