/** @file A Python with given modules, for tests that compare with it; PYTHON names one, else python3 is tried. */
import { spawnSync } from 'node:child_process';

/** The interpreter's name; undefined, with a line that says so, where there is none that has the modules. */
export function pythonWith(...modules: string[]): string | undefined {
  const python = process.env.PYTHON ?? 'python3';
  const { status } = spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore' });
  if (status === 0) return python;
  console.log(`skipped without a Python that has ${modules.join(', ')}: comparisons with it (set PYTHON)`);
  return undefined;
}
