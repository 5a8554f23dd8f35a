/**
 * What models write besides Markdown: maths, and a few HTML tags, as extensions of marked. The tags become tokens without
 * attributes. A formula or `details` that is not closed yet counts already, so that nothing changes its kind while it grows.
 */

const MATHS_BLOCK =
  /^ {0,3}(?:\$\$((?:(?!\n\n|\$\$)[\s\S])+)(\$\$|$)|\\\[((?:(?!\n\n|\\\])[\s\S])+)(\\\]|$))[ \t]*(?:\n|$)/;
const DISPLAYED = /^(?:\$\$((?:(?!\n\n|\$\$)[\s\S])+)\$\$|\\\[((?:(?!\n\n|\\\])[\s\S])+)(?:\\\]|$))/;
const PARENTHESES = /^\\\(((?:(?!\n\n|\\\))[\s\S])+)(?:\\\)|$)/;
// A price is no formula: no space inside, and no letter or digit after it.
const DOLLARS = /^\$(?![\s$])((?:\\.|[^\\$\n])*?[^\s\\$])\$(?![\w$])/;
const PAIR = /^<(sub|sup|kbd)>([^<\n]+|(?:(?!<\/?\1>)[^\n])+)<\/\1>/i;
const BREAK = /^<br\s*\/?>/i;
const DETAILS =
  /^ {0,3}<details(?: open)?>\s*(?:<summary>([^\n]*?)<\/summary>)?((?:(?!<\/?details)[\s\S])*)(?:<\/details>|$)[ \t]*(?:\n|$)/i;

const beginOf = (pattern) => (source) => {
  const index = source.search(pattern);
  return index < 0 ? undefined : index;
};

/** A formula with its delimiters, as `typeset` of maths.js reads it. DOMPurify removes attributes with such texts. */
const mathsMarkup = (escapeHtml, { display, raw }) =>
  `<code data-maths="${display ? 'block' : 'inline'}">${escapeHtml(raw.trim())}</code>`;

/** The extensions of marked; `escapeHtml` escapes HTML. */
export function extensions(escapeHtml) {
  return [
    {
      name: 'mathsBlock',
      level: 'block',
      start: beginOf(/\n {0,3}(?:\$\$|\\\[)/),
      tokenizer(source) {
        const found = MATHS_BLOCK.exec(source);
        if (!found) return undefined;
        return { type: 'mathsBlock', raw: found[0], display: true };
      },
      renderer: (token) => `<div>${mathsMarkup(escapeHtml, token)}</div>`,
    },
    {
      name: 'maths',
      level: 'inline',
      start: beginOf(/\\[([]|\$/),
      tokenizer(source) {
        const displayed = DISPLAYED.exec(source);
        const found = displayed ?? PARENTHESES.exec(source) ?? DOLLARS.exec(source);
        if (!found) return undefined;
        return { type: 'maths', raw: found[0], display: Boolean(displayed) };
      },
      renderer: (token) => mathsMarkup(escapeHtml, token),
    },
    {
      name: 'pair',
      level: 'inline',
      start: beginOf(/<(?:sub|sup|kbd)>/i),
      tokenizer(source) {
        const found = PAIR.exec(source);
        if (!found) return undefined;
        return { type: 'pair', raw: found[0], tag: found[1].toLowerCase(), tokens: this.lexer.inlineTokens(found[2]) };
      },
      renderer({ tag, tokens }) {
        return `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`;
      },
    },
    {
      name: 'break',
      level: 'inline',
      start: beginOf(/<br\s*\/?>/i),
      tokenizer(source) {
        const found = BREAK.exec(source);
        return found ? { type: 'break', raw: found[0] } : undefined;
      },
      renderer: () => '<br>',
    },
    detailsExtension(),
  ];
}

function detailsExtension() {
  return {
    name: 'details',
    level: 'block',
    start: beginOf(/\n {0,3}<details/i),
    tokenizer(source) {
      const found = DETAILS.exec(source);
      if (!found) return undefined;
      const summary = this.lexer.inlineTokens((found[1] ?? 'Details').trim());
      return { type: 'details', raw: found[0], summary, tokens: this.lexer.blockTokens(found[2].trim(), []) };
    },
    renderer({ summary, tokens }) {
      const head = `<summary>${this.parser.parseInline(summary)}</summary>`;
      return `<details>${head}${this.parser.parse(tokens)}</details>`;
    },
  };
}
