/** @file What is written to a terminal: names and texts of strangers cannot steer it. */
import { shown } from '../../common/errors.ts';
import type { Screen } from './progress.ts';

/** The one sequence that the command writes itself: back to the line's beginning, and the line cleared. */
export const CLEAR_LINE = '\r\x1b[K';

/** Text with its control characters shown by their codes, line ends and tabs kept. */
export const harmless = (text: string): string =>
  text
    .split(CLEAR_LINE)
    .map((part) => part.replace(/[^\n\t]+/g, shown))
    .join(CLEAR_LINE);

/** A screen that shows control characters instead of sending them. */
export const screened = (screen: Screen): Screen => ({
  write: (text) => screen.write(harmless(text)),
  get isTTY() {
    return screen.isTTY;
  },
  get columns() {
    return screen.columns;
  },
});
