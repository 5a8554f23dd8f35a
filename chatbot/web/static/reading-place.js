/** Where the user reads the conversation: at its end, which is followed while it grows, or at a turn that stays where it is. */

// Pixels.
const NEAR_START = 600;
const NEAR_END = 24;

export class ReadingPlace {
  #scroller = document.getElementById('scroller');
  #list = document.getElementById('turns');
  #jump = document.getElementById('jump');
  #nearStart;
  #following = true;
  #top = 0;
  #resumeAt = null; // {id, top}: where to continue reading, once it is drawn

  /** `nearStart()` is called when the user scrolls up to the first turns. */
  constructor(nearStart) {
    this.#nearStart = nearStart;
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => {
      this.#scroller.focus({ preventScroll: true });
      this.follow();
    });
    const observer = new ResizeObserver(() => this.keepUp());
    observer.observe(this.#list);
    observer.observe(this.#scroller);
  }

  /** Scrolls to the end, and stays there while the conversation grows. */
  follow() {
    this.#resumeAt = null;
    this.#following = true;
    this.keepUp();
  }

  /** Scrolls to the end if it is followed. */
  keepUp() {
    if (this.#following) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
      this.#top = this.#scroller.scrollTop;
    }
    this.#jump.hidden = this.#following;
  }

  /** The first visible turn and its distance from the upper edge, {id, top}; null at the end. */
  get value() {
    if (this.#resumeAt) return this.#resumeAt;
    const turn = this.#following ? null : this.#firstVisible();
    if (!turn) return null;
    return { id: turn.dataset.id, top: Math.round(turn.getBoundingClientRect().top - this.#edge) };
  }

  /** Sets where to continue; `resume` goes there. */
  set value(place) {
    this.#resumeAt = place;
  }

  /** Goes to the place that was set. `rootOf(id)` returns the element of a turn, undefined if it is not loaded. */
  resume(rootOf) {
    if (!this.#resumeAt) return;
    const { id, top } = this.#resumeAt;
    this.#resumeAt = null;
    const root = rootOf(id);
    if (!root) return;
    this.#following = false;
    for (let pass = 0; pass < 3; pass += 1) {
      // Each pass lays out what was only estimated before.
      this.#scroller.scrollTop += root.getBoundingClientRect().top - this.#edge - top;
    }
    this.#top = this.#scroller.scrollTop;
  }

  /** Calls `change` and keeps the first visible turn where it is on the screen. */
  keepWhile(change) {
    const anchor = this.#following ? null : this.#firstVisible();
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (!anchor?.isConnected) return;
    this.#scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    this.#top = this.#scroller.scrollTop;
  }

  get #edge() {
    return this.#scroller.getBoundingClientRect().top;
  }

  #firstVisible() {
    const edge = this.#edge;
    const turns = this.#list.children;
    let [low, high] = [0, turns.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (turns[middle].getBoundingClientRect().bottom > edge) high = middle;
      else low = middle + 1;
    }
    return turns[low];
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight <= NEAR_END) this.#following ||= scrollTop >= this.#top;
    else if (scrollTop < this.#top) this.#following = false;
    if (!this.#following && scrollTop < NEAR_START && scrollTop < this.#top) this.#nearStart();
    this.#top = scrollTop;
    this.#jump.hidden = this.#following;
  }
}
