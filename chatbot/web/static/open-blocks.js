/**
 * Blocks at the end of a text that grows, whose end has not come yet: code and `details`. Text is added to them without
 * drawing them again. Each has grow(text, seen, isLast), which draws the text up to `seen`, and returns where the text
 * goes on behind the block, null while it is open; and behind, true when more calls are needed.
 */

import { colour } from './later.js';
import { appendCode } from './markdown.js';
import { detailsOf, endOfDetails } from './markdown-marks.js';

const OPENING = /^(`{3,}|~{3,})[^\n]*\n/;
const UNDECIDED = /\n[ \t\n`~]*$/;
const UNDECIDED_TAG = /<[^>\n]{0,9}$/;

/** What opens a code block that has no closing fence yet: {language, head, end, endAtLast}; null for other blocks. */
function openFence({ type, raw }) {
  const opening = type === 'code' ? OPENING.exec(raw) : null;
  if (!opening) return null;
  const [line, mark] = opening;
  const language = line.slice(mark.length).trim().split(/\s/, 1)[0];
  const end = `\\n {0,3}${mark[0]}{${mark.length},}[ \\t]*`;
  if (new RegExp(`${end}(?:\\n|$)`).test(raw.slice(line.length - 1))) return null;
  return { language, head: line.length, end: new RegExp(`${end}\\n`), endAtLast: new RegExp(`${end}$`) };
}

/**
 * What opens a block that can grow without being drawn again: {head, open(node, at, inner)}; null for other blocks. `head` is
 * the length of the part that is drawn first, `at` the place of its end in the text, `inner` makes a text in an element.
 */
export function openingOf(block, longest) {
  const fence = openFence(block);
  if (fence) return { head: fence.head, open: (node, at) => new OpenCode(node.querySelector('code'), fence, at) };
  const details = block.type === 'details' ? detailsOf(block.raw) : null;
  if (!details?.begun || (details.closed && block.raw.length <= longest)) return null;
  return { head: details.head, open: (node, at, inner) => new OpenDetails(inner(node), at) };
}

class OpenCode {
  #code;
  #fence;
  #from;
  #empty = true;
  behind = false;

  constructor(code, fence, at) {
    code.replaceChildren();
    this.#code = code;
    this.#fence = fence;
    this.#from = at - 1; // with the newline, behind which the closing fence may stand
  }

  grow(text, seen, isLast) {
    const { language, end: closing, endAtLast } = this.#fence;
    const more = text.slice(this.#from, seen);
    const end = closing.exec(more) ?? (isLast ? endAtLast.exec(more) : null);
    // The last line may become the closing fence, and blank lines before that are not shown.
    const doubtful = end || isLast ? null : UNDECIDED.exec(more);
    const taken = more.slice(0, (end ?? doubtful)?.index);
    const shown = end || isLast ? taken.replace(/\n+$/, '') : taken;
    appendCode(this.#code, this.#empty ? shown.slice(1) : shown);
    if (taken) colour(this.#code, language);
    this.#empty &&= taken === '';
    this.#from += taken.length;
    return end ? this.#from + end[0].length : null;
  }
}

class OpenDetails {
  #inner;
  #from;

  constructor(inner, at) {
    this.#inner = inner;
    this.#from = at;
  }

  get behind() {
    return this.#inner.behind;
  }

  grow(text, seen, isLast) {
    const rest = text.slice(this.#from, seen);
    const end = endOfDetails(rest, 0);
    this.#inner.set(
      end || isLast ? rest.slice(0, end?.index) : rest.replace(UNDECIDED_TAG, ''),
      Boolean(end) || isLast,
    );
    if (this.behind) this.#inner.step();
    return end && !this.behind ? this.#from + end.index + end.length : null;
  }
}
