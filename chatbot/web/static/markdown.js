/**
 * Markdown to DOM nodes. HTML in a model's text is shown as text. The parser is the first layer of defence, the
 * sanitizer the second, and the page's content security policy the third.
 */

import { colour, typeset } from './later.js';
import { extensions } from './markdown-marks.js';
import { Lexer, Marked } from './vendor/marked.esm.js';
import './vendor/purify.min.js'; // defines DOMPurify

const BOX = { true: '☑ ', false: '☐ ' }; // of an item of a task list: done, and not
const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i;
const HEADING_OFFSET = 1; // the page itself has the h1
const TAGS =
  'a b blockquote br code del details div em h2 h3 h4 h5 h6 hr i kbd li mark ol p pre strong sub summary sup table tbody td th thead tr u ul';
const ALLOWED = {
  ALLOWED_TAGS: TAGS.split(' '),
  ALLOWED_ATTR: ['align', 'data-language', 'data-maths', 'href', 'start'],
  ALLOWED_URI_REGEXP: SAFE_LINK,
  ADD_URI_SAFE_ATTR: ['align', 'data-language', 'data-maths', 'start'], // these hold no addresses
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);
const anchor = (href, inner) => `<a href="${escapeHtml(href)}">${inner}</a>`;
const noToken = () => undefined; // makes marked read the text as plain text

const marked = new Marked({
  gfm: true,
  breaks: true,
  tokenizer: {
    html: noToken,
    tag: noToken,
    // A link definition would change blocks that are drawn already. An underlined heading flickers where a list begins.
    def: noToken,
    lheading: noToken,
  },
  renderer: {
    html: ({ text }) => escapeHtml(text),
    link({ href, raw, tokens }) {
      return SAFE_LINK.test(href) ? anchor(href, this.parser.parseInline(tokens)) : escapeHtml(raw);
    },
    // Images are shown as links: a model's text loads nothing.
    image: ({ href, raw, text }) => (SAFE_LINK.test(href) ? anchor(href, escapeHtml(text || href)) : escapeHtml(raw)),
    heading({ depth, tokens }) {
      const name = `h${Math.min(6, depth + HEADING_OFFSET)}`;
      return `<${name}>${this.parser.parseInline(tokens)}</${name}>`;
    },
    checkbox: ({ checked }) => BOX[checked],
    code: ({ text, lang = '' }) =>
      `<pre data-language="${escapeHtml(lang.split(/\s/, 1)[0])}"><code>${escapeHtml(text)}</code></pre>`,
  },
});

marked.use({ extensions: extensions(escapeHtml) });

/** The blocks of a text, as tokens of marked. Their `raw` texts joined are the text. */
export function blocksOf(text) {
  return new Lexer(marked.defaults).lex(text);
}

/** Sanitized nodes for blocks, as a document fragment. */
export function nodesOf(blocks) {
  const fragment = globalThis.DOMPurify.sanitize(marked.parser(blocks), ALLOWED);
  typeset(fragment);
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const pre of fragment.querySelectorAll('pre')) frameCode(pre);
  for (const item of fragment.querySelectorAll('li')) {
    const beginning = item.firstChild?.textContent.slice(0, 2);
    if (beginning === BOX.true || beginning === BOX.false) item.className = 'task';
  }
  for (const table of fragment.querySelectorAll('table')) {
    const frame = make('div', { className: 'table', tabIndex: 0, ariaLabel: 'Table', role: 'group' });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const node of fragment.querySelectorAll('ul, ol, blockquote, details > *')) node.dir ||= 'auto';
  return fragment;
}

/** A text without its Markdown marks, for screen readers. */
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
  colour(code, language);
}

const SEGMENT = 4000; // characters, laid out again whenever a line is added
const LONGEST_LINE = 4 * SEGMENT;

/** Adds text to a code block, in segments with a layout of their own. They end with a line unless it is too long. */
export function appendCode(code, text) {
  for (let left = text; left; ) {
    let last = code.lastElementChild;
    const held = last?.textContent ?? '';
    if (!last || held.length >= LONGEST_LINE || (held.length >= SEGMENT && held.endsWith('\n'))) {
      last = code.appendChild(document.createElement('span'));
    }
    const room = LONGEST_LINE - last.textContent.length;
    const end = left.indexOf('\n', Math.max(0, SEGMENT - last.textContent.length)) + 1 || left.length;
    const cut = Math.max(1, Math.min(end, room));
    last.append(left.slice(0, cut));
    last.normalize();
    left = left.slice(cut);
  }
}
