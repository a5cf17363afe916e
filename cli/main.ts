#!/usr/bin/env node
/** @file The `distill` command. The first Ctrl-C ends the step and saves; the second stops at once. */
import { main } from './program.ts';

const controller = new AbortController();
let asked = false;
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => {
    if (asked) process.exit(130);
    asked = true;
    controller.abort(new Error(name));
  });

process.exitCode = await main(process.argv.slice(2), { out: process.stdout, err: process.stderr }, controller.signal);
