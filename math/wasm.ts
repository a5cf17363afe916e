/** @file WebAssembly modules written out as bytes: the parts that every module has. */

/** What is used here of WebAssembly, whose types come with the browser's otherwise. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports?: object) => { exports: Record<string, unknown> };
  Memory: new (limits: { initial: number; maximum: number; shared: true }) => { buffer: SharedArrayBuffer };
};

/** Types of values. */
export const [I32, F32, F64, V128] = [0x7f, 0x7d, 0x7c, 0x7b];

const PAGE = 65_536;

/** A whole number below 2^32 as the format writes it. */
export const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
/** A whole number from 0 as the format writes signed ones, such as constants. */
export const signed = (n: number): number[] => (n < 64 ? [n] : [(n & 127) | 128, ...signed(n >>> 7)]);
const section = (id: number, body: number[]): number[] => [id, ...leb(body.length), ...body];
const text = (s: string): number[] => [s.length, ...Buffer.from(s)];

export interface WasmFunction {
  name: string;
  parameters: readonly number[];
  results: readonly number[];
  /** Its declarations of locals and its instructions, the last `end` included. */
  code: readonly number[];
}

/** An instance with a memory of its own. @param bytes of memory, rounded up to whole pages of 64 KB */
export function wasmInstance<T>(
  functions: readonly WasmFunction[],
  bytes: number,
): T & { memory: { buffer: ArrayBuffer } } {
  const module = moduleOf(functions, {
    memory: section(5, [1, 0, ...leb(Math.ceil(bytes / PAGE))]),
    exported: [[...text('memory'), 2, 0]],
  });
  return new WebAssembly.Instance(module).exports as T & { memory: { buffer: ArrayBuffer } };
}

/** The same over a memory that other threads can have too: they make an instance of the module with `env.memory`. */
export function sharedInstance<T>(
  functions: readonly WasmFunction[],
  bytes: number,
): { exports: T; module: object; memory: { buffer: SharedArrayBuffer } } {
  const pages = Math.ceil(bytes / PAGE);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const module = moduleOf(functions, {
    imported: section(2, [1, ...text('env'), ...text('memory'), 2, 3, ...leb(pages), ...leb(pages)]),
  });
  return { exports: new WebAssembly.Instance(module, { env: { memory } }).exports as T, module, memory };
}

/** @param parts the section of imports or of a memory, and further exports */
function moduleOf(
  functions: readonly WasmFunction[],
  { imported = [], memory = [], exported = [] }: { imported?: number[]; memory?: number[]; exported?: number[][] },
): object {
  return new WebAssembly.Module(
    Uint8Array.from([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, [
        functions.length,
        ...functions.flatMap(({ parameters, results }) => [
          ...[0x60, parameters.length, ...parameters],
          ...[results.length, ...results],
        ]),
      ]),
      ...imported,
      ...section(3, [functions.length, ...functions.map((_, i) => i)]),
      ...memory,
      ...section(7, [
        exported.length + functions.length,
        ...exported.flat(),
        ...functions.flatMap(({ name }, i) => [...text(name), 0, i]),
      ]),
      ...section(10, [functions.length, ...functions.flatMap(({ code }) => [...leb(code.length), ...code])]),
    ]),
  );
}
