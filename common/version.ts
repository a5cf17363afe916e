/** @file The package's version, as checkpoints and runs name it. */
export const VERSION = '0.1.0';
