/** @file Where a run computes: teachers, training and encoding share one provider. */

import type { Config } from '../../config/config.ts';
import { fastestProvider } from '../../engine/runtime/device-session.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';

/** The provider that the config names, or the fastest that is there, and the threads where it is the processor. */
export async function computeOn({
  train: { provider, threads },
}: {
  train: Pick<Config['train'], 'provider' | 'threads'>;
}): Promise<Pick<SessionOptions, 'provider' | 'threads'>> {
  const chosen = provider === 'auto' ? await fastestProvider() : provider;
  return { provider: chosen, ...(chosen === 'cpu' && { threads }) };
}
