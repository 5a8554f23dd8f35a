/**
 * Colours for code, by the CSS custom highlight API: ranges over the text, no markup. highlight.js and the language are
 * loaded when a block of code needs them. Browsers without the API show code in one colour.
 */

const LANGUAGES = {
  bash: 'sh shell zsh console',
  c: 'h',
  cpp: 'c++ cc hpp',
  csharp: 'cs c#',
  css: '',
  diff: 'patch',
  go: 'golang',
  java: '',
  javascript: 'js jsx mjs node',
  json: 'jsonc json5',
  kotlin: 'kt',
  php: '',
  python: 'py python3',
  ruby: 'rb',
  rust: 'rs',
  sql: 'postgresql mysql sqlite',
  typescript: 'ts tsx',
  xml: 'html svg xhtml',
  yaml: 'yml',
};
const NAMES = new Map(
  Object.entries(LANGUAGES).flatMap(([name, others]) => [name, ...others.split(' ')].map((alias) => [alias, name])),
);
/** Kinds of colour, and the scopes of highlight.js that have them. */
const KINDS = {
  keyword: ['keyword', 'literal', 'selector-tag', 'operator', 'tag', 'name'],
  string: ['string', 'regexp', 'addition', 'char', 'selector-attr'],
  comment: ['comment', 'meta', 'quote'],
  number: ['number', 'symbol', 'variable', 'attr', 'attribute', 'property', 'template-variable'],
  title: ['title', 'built_in', 'type', 'section', 'selector-class', 'selector-id', 'deletion'],
};
const KIND_OF = new Map(Object.entries(KINDS).flatMap(([kind, scopes]) => scopes.map((scope) => [scope, kind])));
const LONGEST = 20_000; // characters; a longer block keeps one colour
const DELAY = 100; // milliseconds between two passes over blocks that grow

const supported = typeof Highlight === 'function' && Boolean(CSS.highlights);
// With forced colours a highlight is a block of the selection's colour, whatever its style.
const forced = window.matchMedia('(forced-colors: active)');
const waiting = new Map(); // element → language
const coloured = new Map(); // element → [[kind, range]…]
let _timer = 0;
let hljs = null;
const loaded = new Map(); // language → promise

forced.addEventListener('change', () => {
  for (const [element, ranges] of coloured) forget(element, ranges);
});

/** Colours the text of an element, soon; called again whenever the text has grown. */
export function colour(element, language) {
  const name = NAMES.get(language.toLowerCase());
  if (!supported || !name || forced.matches) return;
  waiting.set(element, name);
  _timer ||= setTimeout(colourAll, DELAY);
}

async function colourAll() {
  for (const [element, ranges] of coloured) if (!element.isConnected) forget(element, ranges);
  const blocks = [...waiting];
  waiting.clear();
  _timer = 0;
  for (const [element, name] of blocks) {
    if (!element.isConnected || element.textContent.length > LONGEST || !(await load(name))) continue;
    if (element.isConnected) colourOne(element, name);
    await new Promise((resolve) => setTimeout(resolve));
  }
}

async function load(name) {
  if (!loaded.has(name)) {
    const core = import('./vendor/highlight-core.min.js');
    const grammar = import(`./vendor/highlight-${name}.min.js`);
    const both = Promise.all([core, grammar]).then(
      ([{ default: library }, { default: language }]) => {
        hljs = library;
        hljs.registerLanguage(name, language);
        return true;
      },
      () => loaded.delete(name) && false,
    );
    loaded.set(name, both);
  }
  return loaded.get(name);
}

function forget(element, ranges) {
  for (const [kind, range] of ranges) CSS.highlights.get(kind).delete(range);
  coloured.delete(element);
}

function colourOne(element, name) {
  const texts = textNodes(element);
  const ranges = [];
  for (const { kind, from, to } of spansOf(element.textContent, name)) {
    for (const { node, start } of texts) {
      const [begin, end] = [Math.max(from, start) - start, Math.min(to, start + node.length) - start];
      if (begin >= end) continue;
      const range = new StaticRange({ startContainer: node, startOffset: begin, endContainer: node, endOffset: end });
      ranges.push([kind, range]);
    }
  }
  const before = coloured.get(element) ?? [];
  for (const [kind, range] of ranges) {
    if (!CSS.highlights.has(kind)) CSS.highlights.set(kind, new Highlight());
    CSS.highlights.get(kind).add(range);
  }
  forget(element, before);
  coloured.set(element, ranges);
}

function textNodes(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const nodes = [];
  for (let start = 0; walker.nextNode(); start += walker.currentNode.length) {
    nodes.push({ node: walker.currentNode, start });
  }
  return nodes;
}

/** The coloured spans of a text: [{kind, from, to}]. The markup of highlight.js is read, and never shown. */
function spansOf(text, language) {
  const markup = hljs.highlight(text, { language, ignoreIllegals: true }).value;
  const options = { ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class'], RETURN_DOM_FRAGMENT: true };
  const fragment = globalThis.DOMPurify.sanitize(`<div></div>${markup}`, { ...options, ALLOWED_TAGS: ['div', 'span'] });
  const spans = [];
  for (const { node, start } of textNodes(fragment)) {
    const scope = /hljs-([\w-]+)/.exec(node.parentNode.className ?? '')?.[1];
    const kind = KIND_OF.get(scope);
    if (kind) spans.push({ kind, from: start, to: start + node.length });
  }
  return spans;
}
