import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    setupFiles: ['test/setup.ts'],
    include: ['test/**/*.test.ts'],
    // Native sessions and LMDB environments are per process: forks keep one test file's handles out of another's.
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
