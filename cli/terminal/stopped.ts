/** @file Signals that ask the command to stop, and the exit codes that shells expect: 128 plus the signal's number. */
import { constants } from 'node:os';

export const signalNames = ['SIGINT', 'SIGTERM'] as const;
export type SignalName = (typeof signalNames)[number];

/** 130 for SIGINT (Ctrl-C), 143 for SIGTERM. */
export const signalCode = (name: SignalName): number => 128 + constants.signals[name];

/** The reason of an aborted command. */
export class Stopped extends Error {
  readonly exitCode: number;
  constructor(name: SignalName) {
    super(`stopped by ${name}`);
    this.exitCode = signalCode(name);
  }
}
