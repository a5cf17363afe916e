/** @file Segments of texts of any length. */

/**
 * Units that are segmented at a time: each segment holds a copy of all that it was cut from, so that the memory of a text's segments,
 * and the time for them, grow with the square of its length.
 */
const BLOCK = 1024;

/** Segments of a text in their order. What ends a block may go on in the next: it is looked at again there. */
export function* segmentsOf(segmenter: Intl.Segmenter, text: string): Generator<{ segment: string; isWord: boolean }> {
  for (let from = 0, size = BLOCK; from < text.length; ) {
    let to = Math.min(from + size, text.length);
    if (to < text.length && (text.charCodeAt(to - 1) & 0xfc00) === 0xd800) to++;
    let last: { segment: string; isWord: boolean } | undefined;
    let begun = from;
    for (const { segment, isWordLike = false } of segmenter.segment(text.slice(from, to))) {
      if (last) {
        yield last;
        begun += last.segment.length;
      }
      last = { segment, isWord: isWordLike };
    }
    if (to === text.length) {
      if (last) yield last;
      return;
    }
    // A segment that fills the block is looked at with twice as much of the text.
    size = begun === from ? 2 * size : BLOCK;
    from = begun;
  }
}
