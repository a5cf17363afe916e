/** @file Markup whose every inserted text is escaped, unless it is markup itself. */

/** Text that is markup already. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** A text as it stands in HTML and in a quoted attribute; control characters, which HTML forbids, become U+FFFD. */
export const escapeText = (text: string): string => printable(text.replace(/[&<>"']/g, (c) => entities[c]));

export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
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

/** A template whose values are escaped; lists are joined, undefined and false are nothing. */
export const html = (strings: TemplateStringsArray, ...parts: Part[]): Markup =>
  new Markup(strings.reduce((all, s, i) => all + render(parts[i - 1]) + s));
