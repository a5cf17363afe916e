/**
 * @file Runs a static query tower: text to vector by look-up and sum, without a model runtime, in Node and in browsers.
 *
 * e = normalise(sum of scale_t * row_t over the text's tokens t)
 *
 * @example
 * const encoder = new StaticEncoder(await readFile('static.safetensors')); // in a browser: await response.arrayBuffer()
 * const vector = encoder.embed('how do I install a kernel module');
 */

interface Header {
  __metadata__: Record<string, string>;
  rows: { shape: [number, number]; data_offsets: [number, number] };
  scales: { data_offsets: [number, number] };
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

/** Reads a file and checks its sizes against its bytes. */
function contentOf(file: ArrayBuffer | Uint8Array) {
  try {
    const bytes = new Uint8Array(file instanceof Uint8Array ? file.slice() : file); // aligned
    const body = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const { __metadata__: meta, ...arrays }: Header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, body)));
    const [vocabulary, dimensions] = arrays.rows.shape;
    const data = ({ data_offsets: [from, to] }: Header['scales'], size: number): ArrayBuffer => {
      if (!(size > 0 && from >= 0 && to - from === size && body + to <= bytes.length)) throw new Error('cut short');
      return bytes.buffer.slice(body + from, body + to);
    };
    const rows = new Int8Array(data(arrays.rows, vocabulary * dimensions));
    const scales = new Float32Array(data(arrays.scales, 4 * vocabulary));
    const tokenizer: Tokenizer = JSON.parse(meta.tokenizer);
    const prompts: Prompts = JSON.parse(meta.prompts ?? '{}');
    const lists = [tokenizer.special, tokenizer.before, tokenizer.after];
    if (meta.format !== 'onnx-distill-static-1' || !lists.every(Array.isArray) || typeof meta.pieces !== 'string')
      throw new Error('another format');
    return { rows, scales, dimensions, meta, tokenizer, prompts };
  } catch (cause) {
    throw new Error('the file is not a static encoder of onnx-distill, or is incomplete', { cause });
  }
}

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
  private readonly options: { lowercase: boolean; stripAccents: boolean; maxTokens: number; prefix: string };
  private readonly special: RegExp | undefined;
  private readonly around: [before: number[], after: number[]];
  private readonly unknown: number;
  private readonly prompts: Prompts;

  /**
   * @param file the bytes of what `distill export --dtype static-int8` writes: safetensors with rows, scales and pieces
   * @throws Error if the bytes are another format or truncated
   */
  constructor(file: ArrayBuffer | Uint8Array) {
    const { rows, scales, dimensions, meta, tokenizer, prompts } = contentOf(file);
    this.prompts = prompts;
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
      const scale = scales[ids[i]];
      const at = ids[i] * D;
      if (scale) for (let d = 0; d < D; d++) sum[d] += scale * rows[at + d];
    }
    let square = 0;
    for (let d = 0; d < D; d++) square += sum[d] * sum[d];
    const factor = square ? 1 / Math.sqrt(square) : 0;
    for (let d = 0; d < D; d++) sum[d] *= factor;
    return sum;
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
