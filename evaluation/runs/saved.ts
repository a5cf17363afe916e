/** @file A saved student and the folder that holds it. */

export interface Saved {
  folder: string;
  bytes: number;
  parameters: number;
}
