/** @file Where a run computes: teachers, training and encoding share one provider. */

import { fastestProvider } from '../../engine/runtime/device-session.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import type { Encoding } from '../../students/student-scores.ts';
import type { Options } from './options.ts';

/** The provider that the config names, or the fastest that is there, and the threads where it is the processor. */
export async function computeOn({
  train: { provider, threads },
}: Options<'train.provider' | 'train.threads'>): Promise<Pick<SessionOptions, 'provider' | 'threads'>> {
  const chosen = provider === 'auto' ? await fastestProvider() : provider;
  return { provider: chosen, ...(chosen === 'cpu' && { threads }) };
}

/** How a run encodes with its student. */
export async function encodingOf(
  options: Options<'student.documentTokens' | 'student.queryTokens' | 'train.provider' | 'train.threads'>,
): Promise<Encoding> {
  const { queryTokens, documentTokens } = options.student;
  return { queryTokens, documentTokens, session: await computeOn(options) };
}
