/** @file NVIDIA's provider: whether its library is installed, why it cannot be loaded, and how exact its products are. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { InputError } from '../../common/errors.ts';

const LIBRARY = 'libonnxruntime_providers_cuda.so';

/** Where onnxruntime-node looks for the provider's library. */
function libraryFolder(): string {
  const runtime = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  return join(runtime, 'bin/napi-v6', process.platform, process.arch);
}

/** Whether the library is there: ONNX Runtime prints an error when CUDA is requested without it. */
export const hasCuda = (): boolean => existsSync(join(libraryFolder(), LIBRARY));

/** A graph that a provider does not load, as one sentence with ONNX Runtime's own reason. */
export function loadFault(provider: string | undefined, cause: unknown, name = 'the graph'): InputError {
  // What ONNX Runtime checked, and where in its sources, says nothing to a user.
  const why = cause instanceof Error ? ` (${cause.message.replace(/^\/.*? was false\. /s, '').trim()})` : '';
  const subject = `ONNX Runtime cannot load ${name} for ${provider ?? 'cpu'}${why}`;
  if (provider !== 'cuda')
    return new InputError({ code: 'runtime.load', subject, remedy: 'choose the provider cpu', cause });
  const file = join(libraryFolder(), LIBRARY);
  return hasCuda()
    ? new InputError({
        code: 'runtime.load',
        subject,
        remedy:
          'put the libraries of CUDA and cuDNN that this onnxruntime-node was built for on LD_LIBRARY_PATH, or choose the provider cpu (docs/running.md)',
        cause,
      })
    : new InputError({
        code: 'runtime.provider',
        subject: `the CUDA provider is not installed: ${file} does not exist`,
        remedy: 'install it as docs/running.md says, or choose the provider cpu',
        cause,
      });
}

/**
 * Whether products of float32 matrices may round their factors to 10 bits (TF32, ONNX Runtime's default for this provider). Its
 * options do not reach it from Node; NVIDIA's libraries read an environment variable when they are loaded.
 */
export function allowTf32(allowed: boolean): void {
  process.env.NVIDIA_TF32_OVERRIDE = allowed ? '1' : '0';
}

/** Whether TF32 was ruled out. */
export const rulesOutTf32 = (): boolean => process.env.NVIDIA_TF32_OVERRIDE === '0';

/**
 * Products of half precision add up in float32 to the end: parts of a long sum are not put together in half precision. The provider
 * reads the variable when it first multiplies.
 * @source cuda_common.cc of microsoft/onnxruntime: 2 disallows reduced precision reduction
 */
export function sumHalvesInFloat32(): void {
  process.env.ORT_CUDA_GEMM_OPTIONS ??= '2';
}
