/** @file Whether WebGPU may be available: on Linux without Vulkan or a device, ONNX Runtime prints an error when it is requested. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const LIBRARY = 'libvulkan.so.1';
const FOLDERS = ['/usr/lib', '/usr/lib64', '/lib', '/lib64', '/usr/local/lib', '/run/opengl-driver/lib'];
/** Of a driver: DRM, NVIDIA's, and that of Windows' subsystem for Linux. */
const DEVICES = ['/dev/dri', '/dev/nvidiactl', '/dev/dxg'];

/** Other systems have WebGPU's own interface (Metal, Direct3D) always. */
export function mayHaveGpu(platform: NodeJS.Platform = process.platform): boolean {
  return platform !== 'linux' || (DEVICES.some(existsSync) && hasVulkan());
}

function hasVulkan(): boolean {
  const named = (process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean);
  if ([...named, ...FOLDERS].some((folder) => existsSync(join(folder, LIBRARY)))) return true;
  try {
    // The loader's own list of what it finds.
    return readFileSync('/etc/ld.so.cache').includes(LIBRARY);
  } catch {
    return false;
  }
}
