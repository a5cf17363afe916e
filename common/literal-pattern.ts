/** @file A text as a part of a regular expression. */

/**
 * A pattern that matches a text as it stands, with every flag. Only syntax characters are escaped: under the flags u and v an escape of
 * any other one, such as a hyphen, is a syntax error.
 */
export const literalPattern = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
