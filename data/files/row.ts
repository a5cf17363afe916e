/** @file A row of a file, whatever the file's format. */

export interface Row {
  /** By column, in the file's order. */
  values: Readonly<Record<string, unknown>>;
  /** E.g. `pairs.csv line 12`, for messages. */
  where: string;
  /** Whether the columns' names come from a first line of text, which may be missing. */
  headed?: boolean;
  /** How the file was read, where that is a guess; the same for all rows of a file. */
  note?: string;
}
