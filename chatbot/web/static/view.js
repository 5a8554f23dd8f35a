/** The log of messages on the page. Draws once a frame, for a bounded time, and only what has changed. */

import { TurnNodes } from './turn.js';

const FRAME = 8; // milliseconds of drawing in one frame
const NEAR_END = 24; // pixels

export class View {
  #scroller = document.getElementById('scroller');
  #list = document.getElementById('turns');
  #jump = document.getElementById('jump');
  #order = []; // the turns, as they are to stand
  #nodes = new Map(); // turn id → its TurnNodes
  #dirty = new Set(); // turns to be filled
  #behind = new Set(); // TurnNodes with more to draw
  #misplaced = false;
  #scheduled = false;
  #top = 0;

  /** `act(action, id, button)` is told of the buttons in turns: retry, sendAgain, edit, copy and copyCode. */
  constructor(act) {
    this.following = true;
    this.#list.addEventListener('click', ({ target }) => {
      const button = target.closest('button[data-act]');
      if (button) act(button.dataset.act, button.closest('.turn').dataset.id, button);
    });
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => {
      this.#scroller.focus({ preventScroll: true });
      this.follow();
    });
    const observer = new ResizeObserver(() => this.#keepUp());
    observer.observe(this.#list);
    observer.observe(this.#scroller);
  }

  clear() {
    this.#order = [];
    this.#nodes.clear();
    this.#dirty.clear();
    this.#behind.clear();
    this.#list.replaceChildren();
    this.follow();
  }

  /** A turn has changed. */
  touch(turn) {
    this.#dirty.add(turn);
    this.#schedule();
  }

  /** The turns are others, or stand in another order. */
  arrange(order) {
    this.#order = order;
    this.#misplaced = true;
    this.#schedule();
  }

  /** Goes to the end and stays there while it grows. */
  follow() {
    this.following = true;
    this.#keepUp();
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#draw();
    });
  }

  #draw() {
    const deadline = performance.now() + FRAME;
    if (this.#misplaced) this.#place(deadline);
    for (const turn of this.#dirty) {
      const nodes = this.#nodes.get(turn.id);
      // What has no nodes yet is filled when it gets them.
      if (nodes) this.#fill(nodes, turn);
      if (nodes || !this.#misplaced) this.#dirty.delete(turn);
      if (performance.now() > deadline) break;
    }
    for (const nodes of this.#behind) this.#catchUp(nodes, deadline);
    this.#keepUp();
    if (this.#misplaced || this.#dirty.size || this.#behind.size) this.#schedule();
  }

  /** Puts turns into their order, the newest first: they are looked at first. */
  #place(deadline) {
    this.#misplaced = false;
    const gone = new Set(this.#nodes.keys());
    let next = null;
    for (const turn of this.#order.toReversed()) {
      gone.delete(turn.id);
      let nodes = this.#nodes.get(turn.id);
      if (!nodes && performance.now() < deadline) {
        nodes = new TurnNodes(turn.id);
        this.#nodes.set(turn.id, nodes);
        this.#dirty.delete(turn);
        this.#fill(nodes, turn);
        this.#catchUp(nodes, deadline);
      }
      if (!nodes) {
        this.#misplaced = true;
        continue;
      }
      if (nodes.root.nextElementSibling !== next || !nodes.root.parentNode) this.#list.insertBefore(nodes.root, next);
      next = nodes.root;
    }
    for (const id of gone) {
      this.#behind.delete(this.#nodes.get(id));
      this.#nodes.get(id).root.remove();
      this.#nodes.delete(id);
    }
  }

  #fill(nodes, turn) {
    nodes.fill(turn, () => this.touch(turn));
    if (nodes.behind) this.#behind.add(nodes);
  }

  #catchUp(nodes, deadline) {
    while (nodes.behind && performance.now() < deadline) nodes.step();
    if (nodes.behind) this.#behind.add(nodes);
    else this.#behind.delete(nodes);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight <= NEAR_END) this.following = scrollTop >= this.#top || this.following;
    else if (scrollTop < this.#top) this.following = false;
    this.#top = scrollTop;
    this.#jump.hidden = this.following;
  }

  #keepUp() {
    if (this.following) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
      this.#top = this.#scroller.scrollTop;
    }
    this.#jump.hidden = this.following;
  }
}
