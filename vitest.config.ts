import { configDefaults, defineConfig } from 'vitest/config';

/** Tests that need no training run, no process of their own and no network: `npm run test:unit`. */
const unit = [
  'test/{layers,temporary-folder}.test.ts',
  'test/adaptive/!(cascade).test.ts',
  'test/{common,data,evaluation,generation,losses,math,selection,weighting}/**/*.test.ts',
  'test/retrieval/{analyzer,codecs,hybrid,top-k}.test.ts',
  'test/engine/{autodiff,graph}/**/*.test.ts',
];

export default defineConfig({
  test: {
    // Native sessions and LMDB environments are per process: forks keep one test file's handles out of another's.
    pool: 'forks',
    globalSetup: 'test/temporary-folder.ts',
    // Many tests wait for processes or compute on one thread: as many files at a time as there are cores.
    maxWorkers: '100%',
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      { extends: true, test: { name: 'unit', include: unit } },
      {
        extends: true,
        test: { name: 'whole', include: ['test/**/*.test.ts'], exclude: [...configDefaults.exclude, ...unit] },
      },
    ],
  },
});
