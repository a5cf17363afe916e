/**
 * @file Growth of time and memory of a training step with sequences and tokens: linear except for attention.
 *
 *   npm run bench -- growth        one JSON line per size, each in a new process
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const sizes = [
  ...[16, 32, 64, 128].map((sequences) => [sequences, 64]),
  ...[32, 128, 256].map((length) => [64, length]),
];

if (import.meta.filename === process.argv[1])
  for (const [sequences, length] of sizes) {
    const step = join(import.meta.dirname, '../peers/step.js');
    const args = [step, 'ours', String(sequences), String(length), '5'];
    const { stdout, status } = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    if (status) process.exitCode = 1;
    else {
      const line = JSON.parse(String(stdout));
      console.log(
        JSON.stringify({ ...line, us_a_token: Math.round((1e6 * line.median_step_s) / (sequences * length)) }),
      );
    }
  }
