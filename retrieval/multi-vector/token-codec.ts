/** @file Encodings of token vectors: bytes a token, each token by itself with a scale of its own. */
import { floatToHalf, halfTable } from '../../math/half.ts';

/** One encoding. */
export interface TokenCodec {
  /** Bytes of one token. @param width of its vector */
  bytes(width: number): number;
  /** @param tokens [n, width] row-major @param into [n x bytes] */
  encode(tokens: Float32Array, width: number, into: Uint8Array): void;
  /** @param codes [n x bytes] @returns [n, width] */
  decode(codes: Uint8Array, width: number): Float32Array;
}

const view = (codes: Uint8Array): DataView => new DataView(codes.buffer, codes.byteOffset, codes.byteLength);

/** Whole numbers from -most to most, and before them the float16 of the largest absolute value. */
const scaled = (most: number, bits: 4 | 8): TokenCodec => {
  const bytes = (width: number): number => 2 + Math.ceil((width * bits) / 8);
  return {
    bytes,
    encode(tokens, width, into) {
      const size = bytes(width);
      const out = view(into);
      for (let i = 0; i * width < tokens.length; i++) {
        let largest = 0;
        for (let k = 0; k < width; k++) largest = Math.max(largest, Math.abs(tokens[i * width + k]));
        const half = floatToHalf(largest);
        const scale = halfTable()[half];
        out.setUint16(i * size, half, true);
        for (let k = 0; k < width; k++) {
          const value = scale ? Math.round((tokens[i * width + k] / scale) * most) : 0;
          const code = Math.max(-most, Math.min(most, value)) + (bits === 8 ? 0 : 8);
          if (bits === 8) out.setInt8(i * size + 2 + k, code);
          else into[i * size + 2 + (k >> 1)] = k % 2 ? into[i * size + 2 + (k >> 1)] | (code << 4) : code;
        }
      }
    },
    decode(codes, width) {
      const size = bytes(width);
      const n = codes.length / size;
      const tokens = new Float32Array(n * width);
      const halves = halfTable();
      for (let i = 0; i < n; i++) {
        const at = i * size;
        const unit = halves[codes[at] | (codes[at + 1] << 8)] / most;
        for (let k = 0; k < width; k++) {
          const code =
            bits === 8 ? (codes[at + 2 + k] << 24) >> 24 : ((codes[at + 2 + (k >> 1)] >> (4 * (k & 1))) & 15) - 8;
          tokens[i * width + k] = code * unit;
        }
      }
      return tokens;
    },
  };
};

/** Every encoding, by the name that options use. */
export const tokenCodecs = {
  float32: {
    bytes: (width) => 4 * width,
    encode(tokens, _, into) {
      const out = view(into);
      for (let i = 0; i < tokens.length; i++) out.setFloat32(4 * i, tokens[i], true);
    },
    decode(codes) {
      const from = view(codes);
      return Float32Array.from({ length: codes.length / 4 }, (_, i) => from.getFloat32(4 * i, true));
    },
  },
  float16: {
    bytes: (width) => 2 * width,
    encode(tokens, _, into) {
      const out = view(into);
      for (let i = 0; i < tokens.length; i++) out.setUint16(2 * i, floatToHalf(tokens[i]), true);
    },
    decode(codes) {
      const halves = halfTable();
      const tokens = new Float32Array(codes.length / 2);
      for (let i = 0; i < tokens.length; i++) tokens[i] = halves[codes[2 * i] | (codes[2 * i + 1] << 8)];
      return tokens;
    },
  },
  int8: scaled(127, 8),
  int4: scaled(7, 4),
} satisfies Record<string, TokenCodec>;
/** The name of an encoding. */
export type TokenCodecName = keyof typeof tokenCodecs;
