/** @file Equal rows brought together before they are added into a table: a device adds to one place only one after another. */

/** Occurrences of a token that are summed in one go. */
export const CHUNK = 16;

export interface RowChunks {
  chunks: number;
  /** [chunks, CHUNK] positions of one token's occurrences; where there are fewer, the position after the last. */
  places: BigInt64Array;
  /** [chunks] the token of each. A token that occurs often has several chunks. */
  tokens: BigInt64Array;
}

/** @param ids token ids of a group of texts, padding included */
export function rowChunks(ids: BigInt64Array): RowChunks {
  const occurrences = new Map<bigint, number[]>();
  for (let i = 0; i < ids.length; i++) {
    const list = occurrences.get(ids[i]);
    if (list) list.push(i);
    else occurrences.set(ids[i], [i]);
  }
  let chunks = 0;
  for (const list of occurrences.values()) chunks += Math.ceil(list.length / CHUNK);
  const places = new BigInt64Array(chunks * CHUNK).fill(BigInt(ids.length));
  const tokens = new BigInt64Array(chunks);
  let chunk = 0;
  for (const [token, list] of occurrences)
    for (let from = 0; from < list.length; from += CHUNK, chunk++) {
      tokens[chunk] = token;
      for (let k = from; k < Math.min(list.length, from + CHUNK); k++)
        places[chunk * CHUNK + k - from] = BigInt(list[k]);
    }
  return { chunks, places, tokens };
}
