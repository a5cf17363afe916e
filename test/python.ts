/** @file A Python with given modules, for tests that compare with it; PYTHON names one, else python3 is tried. */
import { execFileSync, spawnSync } from 'node:child_process';

/** The interpreter's name; undefined, with a line that says so, where there is none that has the modules. */
export function pythonWith(...modules: string[]): string | undefined {
  const python = process.env.PYTHON ?? 'python3';
  const { status } = spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' });
  if (status === 0) return python;
  console.log(`skipped without a Python that has ${modules.join(', ')}: comparisons with it (set PYTHON)`);
  return undefined;
}

/** Runs a script that prints JSON last, with `folder` and the `texts` of a file set. */
export function runPython(python: string, folder: string, textsFile: string, script: string): unknown {
  const before = `import json, sys, os\nfolder = sys.argv[1]; texts = json.load(open(sys.argv[2]))\n`;
  const out = execFileSync(python, ['-c', before + script, folder, textsFile], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HF_HUB_OFFLINE: '1', CUDA_VISIBLE_DEVICES: '' },
    maxBuffer: 1 << 26,
  });
  return JSON.parse(out.toString().trim().split('\n').at(-1) as string);
}
