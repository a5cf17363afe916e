/** @file Text, Markdown and HTML files as headings and paragraphs. */
import type { Block } from './passages.ts';

/** A file's title, '' where it names none, and its parts in reading order. */
export interface ReadText {
  readonly title: string;
  readonly blocks: Block[];
}

/** Stands before a heading while HTML is turned into text. */
const MARK = '\u0001';

/** Readers by a file's ending. */
export const textReaders: Readonly<Record<string, (text: string) => Promise<ReadText>>> = {
  htm: readHtml,
  html: readHtml,
  markdown: readMarkdown,
  md: readMarkdown,
  txt: async (text) => ({ title: '', blocks: paragraphs(text) }),
};

/** Paragraphs of plain text, between blank lines. */
export const paragraphs = (text: string): Block[] =>
  text
    .split(/\n[^\S\n]*\n/)
    .map((p) => p.trim())
    .filter(Boolean)
    .map((p) =>
      p.startsWith(MARK)
        ? { heading: true, text: oneLine(p.slice(1)) }
        : { heading: false, text: p.replace(/[^\S\n]*\n[^\S\n]*/g, '\n') },
    );

const oneLine = (text: string): string => text.replace(/\s+/g, ' ').trim();

async function readHtml(html: string): Promise<ReadText> {
  const { convert } = await import('html-to-text');
  const heading = { format: 'marked', options: { leadingLineBreaks: 2, trailingLineBreaks: 2 } };
  const text = convert(html, {
    wordwrap: false,
    limits: { maxInputLength: 1 << 26, maxDepth: 512 },
    formatters: {
      marked: (element, walk, builder) => {
        builder.openBlock({ leadingLineBreaks: 2 });
        builder.addLiteral(MARK);
        walk(element.children, builder);
        builder.closeBlock({ trailingLineBreaks: 2 });
      },
    },
    selectors: [
      ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6'].map((selector) => ({ selector, ...heading })),
      ...['img', 'nav', 'script', 'style', 'noscript', 'template', 'title'].map((selector) => ({
        selector,
        format: 'skip',
      })),
      { selector: 'a', options: { ignoreHref: true } },
      { selector: 'ul', options: { itemPrefix: ' ' } },
      { selector: 'table', format: 'dataTable', options: { uppercaseHeaderCells: false } },
    ],
  });
  const blocks = paragraphs(text.replaceAll('\u00a0', ' '));
  const named = /<title[^>]*>([^<]*)<\/title>/i.exec(html)?.[1];
  return { title: named ? oneLine(convert(named, { wordwrap: false })) : firstHeading(blocks), blocks };
}

async function readMarkdown(source: string): Promise<ReadText> {
  const { marked } = await import('marked');
  // A header of YAML between lines of dashes, as site generators keep one.
  const header = /^---\r?\n([\s\S]*?)\r?\n---\r?\n/.exec(source);
  const { blocks } = await readHtml(await marked.parse(header ? source.slice(header[0].length) : source));
  const named = /^title:\s*["']?(.*?)["']?\s*$/m.exec(header?.[1] ?? '')?.[1];
  return { title: named || firstHeading(blocks), blocks };
}

const firstHeading = (blocks: readonly Block[]): string => (blocks[0]?.heading ? blocks[0].text : '');
