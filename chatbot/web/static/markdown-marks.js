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
const PAIRS = 'sub|sup|kbd|b|strong|i|em|u|code|mark';
const PAIR = new RegExp(`^<(${PAIRS})>([^<\\n]+|(?:(?!</?\\1>)[^\\n])+)</\\1>`, 'i');
const BREAK = /^<br\s*\/?>/i;
const DETAILS =
  /^ {0,3}<details(?: open)?>\s*(?:(<summary>)((?:(?!\n[ \t]*\n|<\/?(?:summary|details))[\s\S])*)(<\/summary>)?)?/i;
const DETAILS_TAG = /(?<=^[ \t]*|>[ \t]*)<details\b|<\/details>(?:[ \t]*\n)?/gim;
const MAY_BE_SUMMARY = /^(?:<(?:s(?:u(?:m.*)?)?)?)?$/i;

/** `details` in others; deeper ones are shown as text. */
export const MAX_DEPTH = 8;

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
      start: beginOf(new RegExp(`<(?:${PAIRS})>`, 'i')),
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

/** The end tag of `details` whose content begins at `from`: {index, length}; null without one. */
export function endOfDetails(source, from) {
  DETAILS_TAG.lastIndex = from;
  let depth = 1;
  for (let tag = DETAILS_TAG.exec(source); tag; tag = DETAILS_TAG.exec(source)) {
    depth += tag[0].startsWith('</') ? -1 : 1;
    if (depth === 0) return { index: tag.index, length: tag[0].length };
  }
  return null;
}

/**
 * The `details` that a text begins with: {summary, head, end, length, closed, begun}. `head` is where its content begins,
 * `begun` whether there is some. Null when the text begins otherwise.
 */
export function detailsOf(source) {
  const found = DETAILS.exec(source);
  if (!found) return null;
  const [{ length: head }, opened, summary, ended] = found;
  const end = endOfDetails(source, head);
  return {
    summary: summary?.trim(),
    head,
    end: end?.index ?? source.length,
    length: end ? end.index + end.length : source.length,
    closed: end !== null,
    begun: opened ? Boolean(ended) : !MAY_BE_SUMMARY.test(source.slice(head)),
  };
}

function detailsExtension() {
  let depth = 0;
  return {
    name: 'details',
    level: 'block',
    start: beginOf(/\n {0,3}<details/i),
    tokenizer(source) {
      const found = depth < MAX_DEPTH ? detailsOf(source) : null;
      if (!found) return undefined;
      const { summary, head, end, length } = found;
      depth += 1;
      try {
        const tokens = this.lexer.blockTokens(source.slice(head, end).trim(), []);
        return {
          type: 'details',
          raw: source.slice(0, length),
          summary: this.lexer.inlineTokens(summary || 'Details'),
          tokens,
        };
      } finally {
        depth -= 1;
      }
    },
    renderer({ summary, tokens }) {
      const head = `<summary>${this.parser.parseInline(summary)}</summary>`;
      return `<details>${head}${this.parser.parse(tokens)}</details>`;
    },
  };
}
