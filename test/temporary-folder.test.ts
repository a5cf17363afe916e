/** @file Tests and the commands that they start work in the run's own temporary folder. */
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';

test('this process and those that it starts have one temporary folder of the run', () => {
  const own = process.env.ONNX_DISTILL_TEST_FOLDER;
  expect(own).toMatch(/onnx-distill-test-/);
  expect(tmpdir()).toBe(own);
  const asked = ['-p', "require('os').tmpdir()"];
  expect(execFileSync(process.execPath, asked, { encoding: 'utf8' }).trim()).toBe(own);
});
