/**
 * @file Whether WebGPU may be available: on Linux without Vulkan or a device, ONNX Runtime prints an error when it is requested.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const LIBRARY = 'libvulkan.so.1';
const FOLDERS = ['/usr/lib', '/usr/lib64', '/lib', '/lib64', '/usr/local/lib', '/run/opengl-driver/lib'];
/** Device files of GPU drivers: DRM, NVIDIA, and Windows Subsystem for Linux. */
const DEVICES = ['/dev/dri', '/dev/nvidiactl', '/dev/dxg'];

/** Other systems always have an interface for WebGPU (Metal, Direct3D). */
export function mayHaveGpu(platform: NodeJS.Platform = process.platform): boolean {
  return platform !== 'linux' || (DEVICES.some(existsSync) && hasVulkan());
}

function hasVulkan(): boolean {
  const named = (process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean);
  if ([...named, ...FOLDERS].some((folder) => existsSync(join(folder, LIBRARY)))) return true;
  try {
    // The Vulkan loader's list of drivers.
    return readFileSync('/etc/ld.so.cache').includes(LIBRARY);
  } catch {
    return false;
  }
}
