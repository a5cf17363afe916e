/** @file Where work computes: the provider that is named, or the fastest that is there. */
import { fastestProvider } from './device-session.ts';
import type { SessionOptions } from './session.ts';

/** A provider as options name it, and the threads of a CPU. */
export interface Computing {
  provider: 'auto' | NonNullable<SessionOptions['provider']>;
  threads?: number | undefined;
}

/** The provider that the options name, or the fastest that is there; threads where it is the CPU. */
export async function computeOn({
  provider,
  threads,
}: Computing): Promise<Pick<SessionOptions, 'provider' | 'threads'>> {
  const chosen = provider === 'auto' ? await fastestProvider() : provider;
  return { provider: chosen, ...(chosen === 'cpu' && { threads }) };
}
