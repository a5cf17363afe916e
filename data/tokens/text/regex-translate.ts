/** @file The grammar of an Oniguruma expression, written out again in JavaScript's (flags g and v). */

const SPACES = String.raw`\p{White_Space}`;
/** `\w` of Oniguruma: without joiners, with Latin-1's small numbers. */
const WORDS = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u00b2\u00b3\u00b9\u00bc-\u00be`;
const classes: Record<string, string> = { s: SPACES, w: WORDS, d: String.raw`\p{Nd}`, h: '0-9a-fA-F' };
const posix: Record<string, string> = {
  alpha: String.raw`\p{Alphabetic}`,
  digit: String.raw`\p{Nd}`,
  alnum: String.raw`\p{Alphabetic}\p{Nd}`,
  upper: String.raw`\p{Uppercase}`,
  lower: String.raw`\p{Lowercase}`,
  punct: String.raw`\p{P}\p{S}`,
  space: SPACES,
  cntrl: String.raw`\p{Cc}`,
  xdigit: '0-9a-fA-F',
  word: WORDS,
  blank: String.raw`\p{Zs}\t`,
};
const controls: Record<string, number> = { n: 10, r: 13, t: 9, v: 11, f: 12, a: 7, e: 27 };
/** Letter pairs that are one character in another case, such as ß: their folding is left out. */
const folded = ['ss', 'ff', 'fi', 'fl', 'st'];

export class Translator {
  private readonly source: string[];
  private at = 0;
  private groups = 0;
  private ignoreCase = false;
  private dotAll = false;
  private letters = '';
  private readonly fail: (why: string) => never;

  constructor(source: string, fail: (why: string) => never) {
    this.source = Array.from(source);
    this.fail = fail;
  }

  translate(): string {
    const out = this.alternatives();
    if (this.at < this.source.length) this.fail('a closing parenthesis too many');
    return out;
  }

  private peek(ahead = 0): string | undefined {
    return this.source[this.at + ahead];
  }

  private follows(text: string): boolean {
    const fits = Array.from(text).every((c, i) => this.peek(i) === c);
    if (fits) this.at += text.length;
    return fits;
  }

  /** Up to the end or a closing parenthesis. Flags set inside end there. */
  private alternatives(): string {
    const outer = [this.ignoreCase, this.dotAll] as const;
    let out = '';
    while (this.at < this.source.length && this.peek() !== ')') {
      if (this.follows('|')) {
        out += '|';
        this.letters = '';
      } else out += this.quantified(this.atom());
    }
    [this.ignoreCase, this.dotAll] = outer;
    return out;
  }

  private quantified(atom: string): string {
    let out = atom;
    for (;;) {
      const quantifier = this.quantifier();
      if (quantifier === undefined) return out;
      if (out === '') this.fail('a quantifier with nothing before it');
      // A number of times is not possessive with a plus behind it, it is repeated once more.
      const braces = quantifier.startsWith('{');
      if (this.follows('?')) out = `(?:${out}${quantifier}?)`;
      else if (!braces && this.follows('+')) {
        const name = `a${this.groups++}`;
        out = `(?:(?=(?<${name}>${out}${quantifier}))\\k<${name}>)`;
      } else out = `(?:${out}${quantifier})`;
      this.letters = '';
    }
  }

  private quantifier(): string | undefined {
    for (const sign of ['*', '+', '?']) if (this.follows(sign)) return sign;
    const braces = /^\{(\d*)(,?)(\d*)\}/.exec(this.source.slice(this.at, this.at + 16).join(''));
    if (!braces || (!braces[1] && !braces[3])) return undefined;
    this.at += braces[0].length;
    return `{${braces[1] || '0'}${braces[2]}${braces[3]}}`;
  }

  private atom(): string {
    const c = this.source[this.at++];
    if (c === '(') return this.group();
    if (c === '[') return this.class();
    if (c === '.') return this.dotAll ? '[^]' : String.raw`[^\n]`;
    if (c === '^') return String.raw`(?:(?<![^\n])(?:(?<!\n)|(?=[^])))`;
    if (c === '$') return String.raw`(?:(?![^\n]))`;
    if (c === '\\') return this.escape();
    return this.literal(c);
  }

  private group(): string {
    if (!this.follows('?')) return this.close('(?:');
    if (this.follows('#')) {
      while (this.at < this.source.length && !this.follows(')')) this.at++;
      return '(?:)';
    }
    for (const opening of [':', '=', '!', '<=', '<!'])
      if (this.follows(opening)) return `(?:${this.close(`(?${opening}`)})`;
    if (this.follows('>')) {
      const name = `a${this.groups++}`;
      return `(?:${this.close(`(?=(?<${name}>`)})\\k<${name}>)`;
    }
    if (this.peek() === '<' || this.peek() === "'") {
      const end = this.source[this.at++] === '<' ? '>' : "'";
      while (this.at < this.source.length && !this.follows(end)) this.at++;
      return this.close('(?:');
    }
    let on = true;
    const outer = [this.ignoreCase, this.dotAll] as const;
    for (;;) {
      const flag = this.source[this.at++];
      if (flag === '-') on = false;
      else if (flag === 'i') this.ignoreCase = on;
      else if (flag === 'm') this.dotAll = on;
      // The flags hold to the end of the group around, which resets them.
      else if (flag === ')') return `(?:${this.alternatives()})`;
      else if (flag === ':') {
        const out = this.close('(?:');
        [this.ignoreCase, this.dotAll] = outer;
        return out;
      } else this.fail(`the group (?${flag ?? ''}`);
    }
  }

  private close(opening: string): string {
    this.letters = '';
    const inner = this.alternatives();
    if (!this.follows(')')) this.fail('a parenthesis is not closed');
    this.letters = '';
    return `${opening}${inner})`;
  }

  private escape(): string {
    const c = this.source[this.at++];
    if (c === undefined) this.fail('it ends in a backslash');
    const lower = c.toLowerCase();
    if (lower in classes) return `[${c === lower ? '' : '^'}${classes[lower]}]`;
    if (lower === 'p') return `[${this.property(c === 'P')}]`;
    if (c === 'A') return '(?:(?<![^]))';
    if (c === 'z') return '(?:(?![^]))';
    if (c === 'Z') return String.raw`(?:(?=\n?(?![^])))`;
    if (lower === 'b') {
      const [word, other] = [`[${WORDS}]`, `(?<![${WORDS}])`];
      const edge = `(?<=${word})(?!${word})|${other}(?=${word})`;
      return c === 'b' ? `(?:${edge})` : `(?:(?!${edge}))`;
    }
    if (c === 'R') return String.raw`(?:\r\n|[\n\v\f\r\x85\u2028\u2029])`;
    return this.literal(this.escaped(c));
  }

  /** The character of an escape. */
  private escaped(c: string): string {
    if (c in controls) return String.fromCharCode(controls[c]);
    if (c === 'x' || c === 'u') {
      const rest = this.source.slice(this.at, this.at + 12).join('');
      const hex = (c === 'x' ? /^(?:\{([0-9a-fA-F]{1,8})\}|([0-9a-fA-F]{1,2}))/ : /^([0-9a-fA-F]{4})/).exec(rest);
      const code = Number.parseInt(hex?.[1] ?? hex?.[2] ?? '', 16);
      if (!hex || !(code <= 0x10ffff)) return this.fail(`the escape \\${c}`);
      if (c === 'x' && hex[2] && code > 0x7f) this.fail('a single byte beyond ASCII');
      this.at += hex[0].length;
      return String.fromCodePoint(code);
    }
    if (/[a-zA-Z0-9]/.test(c)) this.fail(`the escape \\${c}`);
    return c;
  }

  private literal(c: string): string {
    if (!this.ignoreCase) return quote(c);
    this.letters = (this.letters + c.toLowerCase()).slice(-2);
    if (folded.includes(this.letters)) this.fail(`"${this.letters}" in either case`);
    const forms = casesOf(c);
    return forms.length > 1 ? `[${forms.map(quote).join('')}]` : quote(c);
  }

  /** A property's part of a class, such as \p{L}. */
  private property(negated: boolean): string {
    if (!this.follows('{')) this.fail('\\p without braces');
    const not = this.follows('^') !== negated;
    let name = '';
    while (this.at < this.source.length && this.peek() !== '}') name += this.source[this.at++];
    if (!this.follows('}')) this.fail('a property is not closed');
    if (this.ignoreCase && /^l[ult]$/i.test(name)) this.fail(`\\p{${name}} in either case`);
    const known = posix[name.toLowerCase()];
    if (known) return not ? `[^${known}]` : `[${known}]`;
    const capital = name[0].toUpperCase() + name.slice(1);
    for (const form of [name, capital, name.toUpperCase(), `Script=${name}`, `Script=${capital}`])
      try {
        new RegExp(`\\p{${form}}`, 'v');
        return `\\${not ? 'P' : 'p'}{${form}}`;
      } catch {}
    return this.fail(`the property ${name}`);
  }

  /** After the opening bracket. */
  private class(): string {
    let out = this.follows('^') ? '[^' : '[';
    let part = '';
    let firstOne = true;
    for (;;) {
      const c = this.source[this.at++];
      if (c === undefined) this.fail('a class is not closed');
      if (c === ']' && !firstOne) return `${out}${wrap(part, out)}]`;
      firstOne = false;
      if (c === '[') {
        if (this.peek() === ':') {
          const name = /^:(\^?)(\w+):\]/.exec(this.source.slice(this.at, this.at + 16).join(''));
          const known = name && posix[name[2]];
          if (!known) return this.fail('a class in a class');
          this.at += name[0].length;
          part += name[1] ? `[^${known}]` : known;
        } else part += this.class();
      } else if (c === '&' && this.peek() === '&') {
        this.at++;
        out += `[${part}]&&`;
        part = '';
      } else if (c === '\\') {
        const e = this.source[this.at++] ?? '';
        const lower = e.toLowerCase();
        if (lower in classes) part += e === lower ? classes[lower] : `[^${classes[lower]}]`;
        else if (lower === 'p') part += this.property(e === 'P');
        else part += this.range(e === 'b' ? '\b' : this.escaped(e));
      } else part += this.range(c);
    }
  }

  /** A character of a class, or a range that begins with it. */
  private range(from: string): string {
    if (this.peek() !== '-' || this.peek(1) === ']' || this.peek(1) === undefined) {
      if (!this.ignoreCase) return quote(from);
      return casesOf(from).map(quote).join('');
    }
    this.at++;
    let to = this.source[this.at++];
    if (to === '[') this.fail('a range to a class');
    if (to === '\\') to = this.escaped(this.source[this.at++] ?? '');
    const [a, b] = [from.codePointAt(0) as number, to.codePointAt(0) as number];
    if (a > b) this.fail('a range that ends before it begins');
    const whole = `${quote(from)}-${quote(to)}`;
    if (!this.ignoreCase) return whole;
    if (b > 0x7f) this.fail('a range beyond ASCII in either case');
    let more = '';
    for (let c = a; c <= b; c++) more += casesOf(String.fromCharCode(c)).map(quote).join('');
    return more;
  }
}

const wrap = (part: string, before: string): string => (before.endsWith('&&') ? `[${part}]` : part);

/** A character as itself, in and outside a class. */
function quote(c: string): string {
  return /[\p{L}\p{N} ]/u.test(c) ? c : `\\u{${(c.codePointAt(0) as number).toString(16)}}`;
}

/** A character in each case. */
function casesOf(c: string): string[] {
  const forms = new Set([c, c.toLowerCase(), c.toUpperCase()]);
  if (/^[kK]$/.test(c)) forms.add('\u212a');
  if (/^[sS]$/.test(c)) forms.add('ſ');
  return [...forms].filter((f) => Array.from(f).length === 1);
}
