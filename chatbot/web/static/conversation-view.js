/** The conversation on the page. Draws changes once a frame, for a bounded time. */

import { MessageView } from './message-view.js';
import { ReadingPlace } from './reading-place.js';

const DRAW_LIMIT = 8; // milliseconds in one frame

export class ConversationView {
  #list = document.getElementById('turns');
  #conversation = null;
  #order = []; // the turns that are shown, in order
  #views = new Map(); // turn id → MessageView
  #dirty = new Set(); // turns that have changed
  #behind = new Set(); // MessageViews that are not drawn completely
  #reading;
  #misplaced = false;
  #scheduled = false;

  /**
   * `act(action, id, button)` is called for clicks: retry, sendAgain, edit, copy and copyCode; `nearStart()` when the
   * user scrolls up to the first turns.
   */
  constructor(act, nearStart) {
    this.#reading = new ReadingPlace(nearStart);
    this.#list.addEventListener('click', ({ target }) => {
      const button = target.closest('button[data-act]');
      if (button) act(button.dataset.act, button.closest('.turn').dataset.id, button);
    });
  }

  clear() {
    this.#conversation = null;
    this.#misplaced = false;
    this.#order = [];
    this.#views.clear();
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

  /** Turns of a Conversation were added or removed, or another path is shown. */
  arrange(conversation) {
    this.#conversation = conversation;
    this.#misplaced = true;
    this.#schedule();
  }

  /** Scrolls to the end, and stays there while the conversation grows. */
  follow() {
    this.#reading.follow();
  }

  /** The first visible turn and its distance from the upper edge, {id, top}; null at the end. */
  get place() {
    return this.#reading.value;
  }

  /** Sets where to continue reading, once it is drawn. */
  set place(place) {
    this.#reading.value = place;
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
    if (this.#misplaced) this.#reading.keepWhile(() => this.#place(deadline));
    for (const turn of this.#dirty) {
      const view = this.#views.get(turn.id);
      // A turn without a view is drawn when it gets one.
      if (view) this.#fill(view, turn);
      if (view || !this.#misplaced) this.#dirty.delete(turn);
      if (performance.now() > deadline) break;
    }
    for (const view of this.#behind) this.#catchUp(view, deadline);
    const isDrawn = !this.#misplaced && !this.#behind.size;
    if (isDrawn && this.#order.length) this.#reading.resume((id) => this.#views.get(id)?.root);
    this.#reading.keepUp();
    if (!isDrawn || this.#dirty.size) this.#schedule();
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
}
