/** @file Output to terminals, in which untrusted names and texts cannot send control sequences. */
import { shown } from '../../common/errors.ts';
import type { Screen } from './progress.ts';

/** The only sequence that the command writes itself: carriage return and clear line. */
export const CLEAR_LINE = '\r\x1b[K';

/** Text with control characters shown by their codes, except line ends and tabs. */
export const harmless = (text: string): string =>
  text
    .split(CLEAR_LINE)
    .map((part) => part.replace(/[^\n\t]+/g, shown))
    .join(CLEAR_LINE);

/** An output that shows control characters instead of sending them. */
export const screened = (screen: Screen): Screen => ({
  write: (text) => screen.write(harmless(text)),
  get isTTY() {
    return screen.isTTY;
  },
  get columns() {
    return screen.columns;
  },
});
