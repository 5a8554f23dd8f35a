/**
 * Markdown to nodes. What a model writes is never taken as HTML: markup in it is shown as the text that it is.
 * The sanitizer behind that is the second wall, and the page's content security policy the third.
 */

import { Lexer, Marked } from './vendor/marked.esm.js';
import './vendor/purify.min.js'; // defines DOMPurify

const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i;
const HEADINGS_BELOW = 1; // the first level is the page's own
const ALLOWED = {
  ALLOWED_TAGS: [
    'a', 'blockquote', 'br', 'code', 'del', 'em', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'li', 'ol', 'p', 'pre', 'strong',
    'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul',
  ],
  ALLOWED_ATTR: ['align', 'data-language', 'href', 'start'],
  ALLOWED_URI_REGEXP: SAFE_LINK,
  ADD_URI_SAFE_ATTR: ['align', 'data-language', 'start'], // they are no addresses
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);
const anchor = (href, inner) => `<a href="${escape(href)}">${inner}</a>`;
const noToken = () => undefined; // what stands there is plain text

const marked = new Marked({
  gfm: true,
  breaks: true,
  tokenizer: {
    html: noToken,
    tag: noToken,
    // A definition would change what is drawn already; a heading by underlining flickers while a list begins.
    def: noToken,
    lheading: noToken,
  },
  renderer: {
    html: ({ text }) => escape(text),
    link({ href, raw, tokens }) {
      return SAFE_LINK.test(href) ? anchor(href, this.parser.parseInline(tokens)) : escape(raw);
    },
    // Nothing is loaded from anywhere for a model.
    image: ({ href, raw, text }) => (SAFE_LINK.test(href) ? anchor(href, escape(text || href)) : escape(raw)),
    heading({ depth, tokens }) {
      const name = `h${Math.min(6, depth + HEADINGS_BELOW)}`;
      return `<${name}>${this.parser.parseInline(tokens)}</${name}>`;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    code: ({ text, lang = '' }) =>
      `<pre data-language="${escape(lang.split(/\s/, 1)[0])}"><code>${escape(text)}</code></pre>`,
  },
});

globalThis.DOMPurify.setConfig(ALLOWED);

/** The blocks of a text, as marked's tokens. Their `raw` texts together are the text. */
export function blocksOf(text) {
  return new Lexer(marked.defaults).lex(text);
}

/** The nodes of blocks, safe to be put into the page. */
export function nodesOf(blocks) {
  const fragment = globalThis.DOMPurify.sanitize(marked.parser(blocks));
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const pre of fragment.querySelectorAll('pre')) frameCode(pre);
  for (const table of fragment.querySelectorAll('table')) {
    const frame = make('div', { className: 'table', tabIndex: 0, ariaLabel: 'Table', role: 'group' });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const list of fragment.querySelectorAll('ul, ol, blockquote')) list.dir = 'auto';
  return fragment;
}

/** What a text says without its marks, for a screen reader. */
export function plainText(text) {
  const fragment = nodesOf(blocksOf(text));
  for (const bar of fragment.querySelectorAll('.code-bar')) bar.remove();
  return Array.from(fragment.children, (node) => node.textContent.trim()).join('\n');
}

function make(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function frameCode(pre) {
  const language = pre.dataset.language || 'code';
  const copy = make('button', { className: 'copy-code', type: 'button' }, 'Copy');
  copy.dataset.act = 'copyCode';
  copy.ariaLabel = 'Copy code';
  const bar = make('div', { className: 'code-bar' }, make('span', {}, language), copy);
  const frame = make('div', { className: 'code', dir: 'ltr' }, bar);
  pre.replaceWith(frame);
  frame.append(pre);
  pre.tabIndex = 0;
  pre.role = 'group';
  pre.ariaLabel = `Code: ${language}`;
  const code = pre.firstElementChild;
  const text = code.textContent.replace(/\n+$/, '');
  code.replaceChildren();
  appendCode(code, text);
}

const PIECE = 4000; // characters; what is laid out anew when a line is added
const LONGEST_LINE = 4 * PIECE;

/** Adds to a code block, in pieces that are laid out each by itself. They end with a line, unless that is too long. */
export function appendCode(code, text) {
  for (let left = text; left; ) {
    let last = code.lastElementChild;
    const held = last?.textContent ?? '';
    if (!last || held.length >= LONGEST_LINE || (held.length >= PIECE && held.endsWith('\n'))) {
      last = code.appendChild(document.createElement('span'));
    }
    const room = LONGEST_LINE - last.textContent.length;
    const end = left.indexOf('\n', Math.max(0, PIECE - last.textContent.length)) + 1 || left.length;
    const cut = Math.max(1, Math.min(end, room));
    last.append(left.slice(0, cut));
    last.normalize();
    left = left.slice(cut);
  }
}
