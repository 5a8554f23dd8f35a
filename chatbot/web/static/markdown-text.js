/**
 * A Markdown text that is drawn while it grows. Complete blocks are drawn once, the last one again whenever it grows.
 * A step takes a bounded time, whatever the length of the text.
 */

import { blocksOf, nodesOf } from './markdown.js';
import { MAX_DEPTH } from './markdown-marks.js';
import { openingOf } from './open-blocks.js';

// Characters.
const STEP = 1024; // read in one step
const LONGEST = 4096; // of a block that is drawn again; longer ones are drawn in parts
const MARK = 64; // after which the kind of a block is certain
const ROWS = 400; // of one table; the next ones begin another, as all of a table is laid out again when it grows
const HEADING = /^ {0,3}\|([^\n]*?)\|?[ \t]*(?:\n[ \t|:-]*)?$/;

const isHigh = (unit) => unit >= 0xd800 && unit <= 0xdbff;

/** How much of a growing block can be final, and the prefix that keeps the rest a block of the same kind. */
function partOf({ type, raw, items }) {
  let length = 0;
  if (type === 'list') length = items.slice(0, -1).reduce((sum, item) => sum + item.raw.length, 0);
  if (type === 'table') {
    const [heading, rule] = raw.split('\n', 2);
    length = raw.lastIndexOf('\n', raw.length - 2) + 1;
    if (length > heading.length + rule.length + 2) return { length, prefix: `${heading}\n${rule}\n` };
  }
  length ||= Math.max(raw.lastIndexOf('\n'), raw.lastIndexOf(' ')) + 1;
  return { length: length || raw.length, prefix: '' };
}

/** The first characters of a line, say "2" or "|-", may look like a new block and turn out to be part of the last. */
function isDoubtful({ type, raw, rows }) {
  return type === 'table' ? rows.length === 0 : raw.length < MARK && !raw.includes('\n');
}

/** A paragraph that will be a table, as far as it can be seen: drawn as one, its bars are never shown as text. */
function foreseen(block) {
  const heading = block.type === 'paragraph' ? HEADING.exec(block.raw)?.[1] : null;
  if (heading == null) return block;
  const cells = heading.split(/(?<!\\)\|/);
  const [table] = blocksOf(`|${heading}|\n|${'---|'.repeat(cells.length)}\n`);
  return table.type === 'table' ? table : block;
}

export class MarkdownText {
  #node;
  #depth; // of `details` around it
  #text = '';
  #final = false; // the text is complete
  #reset = false; // the text no longer begins with what is drawn
  #seen = 0; // end of the text that was read
  #drawn = 0; // end of the text whose nodes are final
  #prefix = ''; // what the rest must begin with to be a block of the same kind
  #rows = null; // the body of the table that a long table's next rows go on in
  #last = []; // the nodes that are not final
  #open = null; // the block at the end that grows by itself: see open-blocks.js
  #closed = true; // the complete text is drawn

  /** The text is drawn into `node`. */
  constructor(node, depth = 0) {
    this.#node = node;
    this.#depth = depth;
  }

  /** Sets the text; a `final` text is complete. */
  set(text, final) {
    const clean = text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
    if (clean === this.#text && final === this.#final) return;
    if (!clean.startsWith(this.#text) || (this.#final && clean !== this.#text)) this.#reset = true;
    this.#text = clean;
    this.#final = final;
    this.#closed = false;
  }

  /** Whether there is more to draw. */
  get behind() {
    return this.#reset || this.#seen < this.#text.length || (this.#final && !this.#closed) || this.#isOpenBehind;
  }

  /** Draws the next part. */
  step() {
    if (this.#reset) this.#begin();
    this.#seen = Math.min(this.#text.length, this.#seen + STEP);
    if (isHigh(this.#text.charCodeAt(this.#seen - 1))) this.#seen = Math.min(this.#text.length, this.#seen + 1);
    if (!this.#open || this.#growOpen()) this.#growBlocks();
    this.#closed = this.#isLast && !this.#isOpenBehind;
  }

  /** All of the text was read, and it is complete. */
  get #isLast() {
    return this.#final && this.#seen === this.#text.length;
  }

  get #isOpenBehind() {
    return this.#open?.behind ?? false;
  }

  #begin() {
    this.#reset = false;
    this.#seen = 0;
    this.#drawn = 0;
    this.#prefix = '';
    this.#rows = null;
    this.#last = [];
    this.#open = null;
    this.#node.replaceChildren();
  }

  #growBlocks() {
    const source = this.#prefix + this.#text.slice(this.#drawn, this.#seen);
    const blocks = blocksOf(source);
    const isText = (block) => block.type !== 'space';
    const last = blocks.findLastIndex(isText);
    if (last < 0) {
      this.#drawLast([]);
      return;
    }
    const block = blocks[last];
    if (this.#isLast && block.raw.length <= LONGEST) {
      this.#settle(blocks, source.length, '');
      return;
    }
    const before = isDoubtful(block) ? blocks.slice(0, last).findLastIndex(isText) : -1;
    const done = blocks.slice(0, before < 0 ? last : before);
    const doneLength = done.reduce((sum, { raw }) => sum + raw.length, 0);
    this.#settle(done, doneLength, done.length ? '' : this.#prefix);

    const opening = this.#prefix || this.#depth > MAX_DEPTH || isDoubtful(block) ? null : openingOf(block, LONGEST);
    if (opening) this.#beginOpen(block, opening);
    else if (block.raw.length > LONGEST) {
      const { length, prefix } = partOf(block);
      this.#settle(blocksOf(block.raw.slice(0, length)), length, prefix);
      this.#drawLast(blocksOf(this.#prefix + this.#text.slice(this.#drawn, this.#seen)));
    } else this.#drawLast(blocks.slice(done.length, last + 1));
  }

  /** Draws the beginning of a block that grows by itself from then on. */
  #beginOpen({ raw }, { head, open }) {
    this.#drawLast(blocksOf(raw.slice(0, head)));
    this.#drawn += head;
    this.#open = open(this.#last[0], this.#drawn, (node) => new MarkdownText(node, this.#depth + 1));
    this.#last = [];
    if (this.#growOpen()) this.#growBlocks();
  }

  /** Lets the open block grow. Returns whether it has ended. */
  #growOpen() {
    const end = this.#open.grow(this.#text, this.#seen, this.#isLast);
    if (end === null) return false;
    this.#drawn = end;
    this.#open = null;
    return true;
  }

  /** Draws the first `length` characters of the source for good. */
  #settle(blocks, length, prefix) {
    if (length > 0) {
      this.#removeLast();
      const nodes = blocks.length ? this.#append(blocks) : [];
      this.#drawn += length - this.#prefix.length;
      this.#rows ??= nodes.at(-1)?.querySelector('tbody');
      if (this.#rows?.childElementCount > ROWS) this.#rows = null;
    }
    if (!prefix) this.#rows = null;
    this.#prefix = prefix;
  }

  #drawLast(blocks) {
    const open = this.#last.map((node) => node.open === true);
    this.#removeLast();
    const shown = this.#final ? blocks : [...blocks.slice(0, -1), ...blocks.slice(-1).map(foreseen)];
    this.#last = shown.length ? this.#append(shown) : [];
    for (const [index, node] of this.#last.entries()) if (open[index]) node.open = true;
  }

  #removeLast() {
    for (const node of this.#last) node.remove();
    this.#last = [];
  }

  #append(blocks) {
    const fragment = nodesOf(blocks);
    const rows = this.#rows ? [...fragment.firstElementChild.querySelectorAll('tbody > tr')] : [];
    if (this.#rows) {
      this.#rows.append(...rows);
      fragment.firstElementChild.remove();
    }
    const nodes = [...fragment.children];
    for (const node of nodes) {
      if (!node.dir) node.dir = 'auto';
    }
    this.#node.append(...nodes);
    return [...rows, ...nodes];
  }
}
