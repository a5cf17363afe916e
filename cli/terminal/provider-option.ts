/** @file The option that says where models compute. */
import { Option } from 'commander';

/** @param what computes there */
export const providerOption = (what: string): Option =>
  new Option('--provider <name>', `execution provider: ${what}`)
    .choices(['auto', 'cpu', 'webgpu', 'cuda'])
    .default('auto');
