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

/** Files whose weights are whole numbers or float16, by the names that transformers.js gives them, and static ones. */
const COMPACT = /_(?:fp16|int8|uint8|q\d\w*|bnb4|quantized)\.onnx$|\.safetensors$/;

/**
 * Where a file of a finished model computes: as `computeOn`, but for compact files, which are made for the CPU and measured there.
 * @param file path of the model file
 */
export async function computeFile(
  file: string,
  provider: Computing['provider'] | undefined,
): Promise<Pick<SessionOptions, 'provider' | 'threads'> | undefined> {
  return provider && !COMPACT.test(file) ? computeOn({ provider }) : undefined;
}

/** What is said where a device was named and a file computes on the CPU; undefined where nothing is to be said. */
export function onCpuNote(file: string, provider: Computing['provider'] | undefined): string | undefined {
  const named = provider && provider !== 'auto' && provider !== 'cpu';
  return named && COMPACT.test(file)
    ? `${file} computes on the CPU, which compact files are made for, and not on ${provider}`
    : undefined;
}
