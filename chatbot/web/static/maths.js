/** Formulas as MathML, which browsers draw and screen readers read. KaTeX is loaded when the first formula appears. */

const MAX_TEX = 4_000; // characters of one formula
const MAX_CACHED = 1_000;
const DRAW_LIMIT = 6; // milliseconds in one task
const DELIMITERS = /^(?:\$\$?|\\[([])|(?:\$\$?|\\[)\]])$/g;
const OPTIONS = { output: 'mathml', throwOnError: true, strict: 'ignore', trust: false, maxExpand: 200, maxSize: 20 };
// MathML without links, styles and actions.
const ALLOWED = {
  ALLOWED_TAGS:
    'math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover semantics none'.split(
      ' ',
    ),
  ALLOWED_ATTR:
    'accent accentunder columnalign columnlines columnspacing depth display displaystyle encoding fence form height linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator side stretchy symmetric voffset width'.split(
      ' ',
    ),
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

let katex = null; // its file sets a global of this name, unless an element has the id "exports"
let loading = null;
const cache = new Map(); // mode and TeX → the drawn formula, or null for one that is not valid

/** Replaces these formulas: known ones at once when KaTeX is there, others within a bounded time or in later tasks. */
export function typeset(nodes) {
  if (katex) drawSome(nodes);
  else load().then(() => drawSome(nodes));
}

function drawSome(nodes) {
  const deadline = performance.now() + DRAW_LIMIT;
  const rest = [];
  for (const node of nodes) {
    if (cache.has(keyOf(node)) || performance.now() < deadline) draw(node);
    else rest.push(node);
  }
  // A block that grows is drawn again meanwhile, with other nodes.
  if (rest.length) setTimeout(() => drawSome(rest.filter((node) => node.isConnected)));
}

const texOf = (node) => node.textContent.replace(DELIMITERS, '').trim();
const keyOf = (node) => `${node.dataset.maths} ${texOf(node)}`;

function load() {
  loading ??= import('./vendor/katex.min.js').then(
    () => {
      katex = globalThis.katex;
    },
    () => {
      loading = null; // the formulas stay as they were written, and the next one tries again
    },
  );
  return loading;
}

function draw(node) {
  if (!katex || !node.parentNode) return;
  const { maths } = node.dataset;
  const key = keyOf(node);
  if (!cache.has(key)) {
    if (cache.size >= MAX_CACHED) cache.delete(cache.keys().next().value); // the oldest
    cache.set(key, drawn(texOf(node), maths === 'block'));
  }
  const formula = cache.get(key);
  if (!formula) return;
  const frame = document.createElement('span');
  frame.className = maths === 'block' ? 'maths block' : 'maths';
  frame.dir = 'ltr';
  if (maths === 'block') frame.tabIndex = 0;
  if (maths === 'block') Object.assign(frame, { role: 'group', ariaLabel: 'Formula' });
  frame.append(formula.cloneNode(true));
  node.replaceWith(frame);
}

function drawn(tex, displayMode) {
  if (tex.length > MAX_TEX) return null;
  try {
    const markup = katex.renderToString(tex, { ...OPTIONS, displayMode });
    const plain = markup.replace(/<annotation[^>]*>[^<]*<\/annotation>/g, '');
    return globalThis.DOMPurify.sanitize(plain, ALLOWED).querySelector('math');
  } catch {
    return null; // no valid formula, or not yet; for some parts of one KaTeX throws TypeErrors
  }
}
