/** The conversation on the page. Draws changes once a frame, for a bounded time. */

import { MessageView } from './message-view.js';

const DRAW_LIMIT = 8; // milliseconds in one frame
// Pixels.
const NEAR_START = 600;
const NEAR_END = 24;

export class ConversationView {
  #scroller = document.getElementById('scroller');
  #list = document.getElementById('turns');
  #jump = document.getElementById('jump');
  #conversation = null;
  #order = []; // the turns that are shown, in order
  #views = new Map(); // turn id → MessageView
  #dirty = new Set(); // turns that have changed
  #behind = new Set(); // MessageViews that are not drawn completely
  #nearStart;
  #misplaced = false;
  #scheduled = false;
  #top = 0;
  #resumeAt = null; // {id, top}: where to continue reading, once it is drawn

  /**
   * `act(action, id, button)` is called for clicks: retry, sendAgain, edit, copy and copyCode; `nearStart()` when the
   * user scrolls up to the first turns.
   */
  constructor(act, nearStart) {
    this.#nearStart = nearStart;
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
    this.#conversation = null;
    this.#misplaced = false;
    this.#order = [];
    this.#views.clear();
    this.#dirty.clear();
    this.#behind.clear();
    this.#list.replaceChildren();
    this.#resumeAt = null;
    this.follow();
  }

  /** A turn has changed. */
  touch(turn) {
    this.#dirty.add(turn);
    this.#schedule();
  }

  /** Turns of a Conversation were added or removed, or another path is shown. */
  arrange(conversation) {
    this.#conversation = conversation;
    this.#misplaced = true;
    this.#schedule();
  }

  /** Scrolls to the end, and stays there while the conversation grows. */
  follow() {
    this.#resumeAt = null;
    this.following = true;
    this.#keepUp();
  }

  /** The first visible turn and its distance from the upper edge, {id, top}; null at the end. */
  get place() {
    if (this.#resumeAt) return this.#resumeAt;
    const turn = this.following ? null : this.#firstVisible();
    if (!turn) return null;
    const edge = this.#scroller.getBoundingClientRect().top;
    return { id: turn.dataset.id, top: Math.round(turn.getBoundingClientRect().top - edge) };
  }

  set place(place) {
    this.#resumeAt = place;
  }

  #goToPlace() {
    const { id, top } = this.#resumeAt;
    if (this.#misplaced || this.#behind.size || !this.#order.length) return;
    this.#resumeAt = null;
    const root = this.#views.get(id)?.root;
    if (!root) return; // the page with this turn is not loaded
    this.following = false;
    for (let pass = 0; pass < 3; pass += 1) {
      // Each pass lays out what was only estimated before.
      const edge = this.#scroller.getBoundingClientRect().top;
      this.#scroller.scrollTop += root.getBoundingClientRect().top - edge - top;
    }
    this.#top = this.#scroller.scrollTop;
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
    const deadline = performance.now() + DRAW_LIMIT;
    if (this.#misplaced) this.#inPlace(() => this.#place(deadline));
    for (const turn of this.#dirty) {
      const view = this.#views.get(turn.id);
      // A turn without a view is drawn when it gets one.
      if (view) this.#fill(view, turn);
      if (view || !this.#misplaced) this.#dirty.delete(turn);
      if (performance.now() > deadline) break;
    }
    for (const view of this.#behind) this.#catchUp(view, deadline);
    if (this.#resumeAt) this.#goToPlace();
    this.#keepUp();
    if (this.#misplaced || this.#dirty.size || this.#behind.size) this.#schedule();
  }

  /** Calls `change` and keeps the first visible turn where it is on the screen. */
  #inPlace(change) {
    const anchor = this.following ? null : this.#firstVisible();
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (!anchor?.isConnected) return;
    this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#top = this.#scroller.scrollTop;
  }

  #firstVisible() {
    const edge = this.#scroller.getBoundingClientRect().top;
    const turns = this.#list.children;
    let [low, high] = [0, turns.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (turns[middle].getBoundingClientRect().bottom > edge) high = middle;
      else low = middle + 1;
    }
    return turns[low];
  }

  /** Puts the views in order, beginning with the newest, which the user sees first. */
  #place(deadline) {
    this.#misplaced = false;
    this.#order = this.#conversation.path;
    const gone = new Set(this.#views.keys());
    let next = null;
    for (const turn of this.#order.toReversed()) {
      gone.delete(turn.id);
      let view = this.#views.get(turn.id);
      if (!view && performance.now() < deadline) {
        view = new MessageView(turn.id);
        this.#views.set(turn.id, view);
        this.#dirty.delete(turn);
        this.#fill(view, turn);
        this.#catchUp(view, deadline);
      }
      if (!view) {
        this.#misplaced = true;
        continue;
      }
      if (view.root.nextElementSibling !== next || !view.root.parentNode) this.#list.insertBefore(view.root, next);
      next = view.root;
    }
    for (const id of gone) {
      this.#behind.delete(this.#views.get(id));
      this.#views.get(id).root.remove();
      this.#views.delete(id);
    }
  }

  #fill(view, turn) {
    view.fill(turn, this.#conversation.paths, () => this.touch(turn));
    if (view.behind) this.#behind.add(view);
  }

  #catchUp(view, deadline) {
    while (view.behind && performance.now() < deadline) view.step();
    if (view.behind) this.#behind.add(view);
    else this.#behind.delete(view);
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight <= NEAR_END) this.following = scrollTop >= this.#top || this.following;
    else if (scrollTop < this.#top) this.following = false;
    if (!this.following && scrollTop < NEAR_START && scrollTop < this.#top) this.#nearStart();
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
