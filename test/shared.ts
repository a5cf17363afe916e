/** @file Where models and data next to the repository are, for the tests that need them. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

const folder = resolve(process.env.SHARED ?? '../shared');

/** The folder with models/, data/, zoo/ and reference/; undefined where it is absent. */
export const shared = existsSync(resolve(folder, 'models')) ? folder : undefined;

if (!shared) console.log(`skipped where ${folder} is absent: tests on real models and data (set SHARED)`);
