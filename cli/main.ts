#!/usr/bin/env node
/** @file The `distill` command. The first Ctrl-C (or SIGTERM) ends the step and saves; the second stops at once. */
import { endRequestsWith } from '../common/http.ts';
import { main } from './program.ts';
import { endQuietly } from './terminal/pipes.ts';
import { Stopped, signalCode, signalNames } from './terminal/stopped.ts';

const controller = new AbortController();
for (const name of signalNames)
  process.on(name, () => {
    if (controller.signal.aborted) process.exit(signalCode(name));
    controller.abort(new Stopped(name));
  });

endRequestsWith(controller.signal);
endQuietly(process.stdout, process.stderr, (code) => process.exit(code));

process.exitCode = await main(process.argv.slice(2), { out: process.stdout, err: process.stderr }, controller.signal);
