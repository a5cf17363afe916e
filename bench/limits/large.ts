/**
 * @file One step of 1,024 pairs of 64 tokens with every document of the batch as a negative, by GradCache.
 *
 *   npm run bench -- large [pairs] [texts a chunk]
 */
import { SHARED } from '../peers/peers.ts';
import { benchStep } from '../peers/step.ts';

if (import.meta.filename === process.argv[1]) {
  const [pairs = 1024, chunk = 32] = process.argv.slice(2).map(Number);
  console.log(JSON.stringify(await benchStep(SHARED, 2 * pairs, 64, 2, { gradCacheChunk: chunk })));
}
