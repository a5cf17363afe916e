/** @file HTML templates that escape inserted text, unless it is markup itself. */

/** Text that is already markup. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Escapes text for HTML and quoted attributes; control characters, which HTML forbids, become U+FFFD. */
export const escapeText = (text: string): string => printable(text.replace(/[&<>"']/g, (c) => entities[c]));

export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are matched on purpose
  text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, '\ufffd');

type Part = string | number | Markup | undefined | false | readonly Part[];

const render = (part: Part): string =>
  part instanceof Markup
    ? part.text
    : Array.isArray(part)
      ? part.map(render).join('')
      : part === undefined || part === false
        ? ''
        : escapeText(String(part));

/** A template whose values are escaped; lists are joined, undefined and false are left out. */
export const html = (strings: TemplateStringsArray, ...parts: Part[]): Markup =>
  new Markup(strings.reduce((all, s, i) => all + render(parts[i - 1]) + s));
