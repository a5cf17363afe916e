/** @file Before every test file: each pass over a graph is followed by the checker. */
import { checks } from '../engine/graph/checker.ts';

checks.afterPasses = true;
