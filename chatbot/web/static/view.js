/** The log of messages on the page. Draws once a frame, and only the turns that changed. */

const PIECE = 1000; // characters; what is shaped anew when a text grows
const shown = new WeakMap(); // node → the text in it

/** Puts the text of a message into a node. The one place where its looks are decided. */
export function renderText(node, text) {
  const before = shown.get(node) ?? '';
  if (text === before) return;
  shown.set(node, text);
  if (!before || !text.startsWith(before)) {
    node.textContent = text;
    return;
  }
  const more = text.slice(before.length);
  const last = node.lastChild;
  const cut = last.length < PIECE ? 0 : more.search(/\s/) + 1;
  if (cut === 0) last.appendData(more);
  else {
    last.appendData(more.slice(0, cut));
    node.append(more.slice(cut));
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const NEAR_END = 24; // pixels

const FAILURES = {
  model_error: 'The reply failed.',
  unavailable: 'Not sent: the server could not take it.',
  rate_limited: 'Not sent: too many messages in a short time.',
  too_many_pending: 'Not sent: earlier messages still wait for a reply.',
  message_too_long: 'Not sent: the message is too long.',
  empty_message: 'Not sent: the message is empty.',
  expired: 'The chat expired before this was answered.',
};
const EDITABLE = new Set(['message_too_long', 'empty_message', 'invalid_id', 'expired']);
const ENDINGS = { length: 'Ended at the length limit', stopped: 'Stopped' };

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function timeOf(timestamp) {
  const time = new Date(timestamp ?? NaN);
  return Number.isNaN(time.getTime()) ? '' : clock.format(time);
}

function seconds(count) {
  return count === 1 ? '1 second' : `${count} seconds`;
}

function failureOf({ state, error, stored }) {
  if (state !== 'failed') return null;
  let text = FAILURES[error.code] ?? (error.message || 'Something went wrong.');
  if (stored && error.code !== 'expired') text = FAILURES.model_error;
  if (!stored && error.code === 'expired') text = 'Not sent: the chat has expired.';
  if (error.retryAfter) text += ` Wait ${seconds(Math.ceil(error.retryAfter))}.`;
  if (stored) return { text, action: error.code === 'expired' ? null : 'retry', label: 'Retry' };
  if (EDITABLE.has(error.code)) return { text, action: 'edit', label: 'Edit' };
  return { text, action: 'sendAgain', label: 'Send again' };
}

function progressOf({ state, status, reply, stored }) {
  if (state !== 'waiting' || !stored) return null;
  if (status?.state === 'loading') return 'Loading the model';
  if (status?.state === 'retrying') {
    const left = Math.ceil(((status.until ?? 0) - Date.now()) / 1000);
    return left > 0 ? `The model failed for now. Trying again in ${seconds(left)}` : 'The model failed for now. Trying again';
  }
  return reply?.text ? null : '';
}

export class View {
  #scroller;
  #turns;
  #jump;
  #template;
  #act;
  #parts = new Map(); // turn id → the nodes of the turn
  #dirty = new Set();
  #order = null; // an order that is not drawn yet
  #scheduled = false;
  #top = 0;

  /** `act(action, id)` is told of the buttons retry, sendAgain and edit. */
  constructor(act) {
    this.#act = act;
    this.#scroller = document.getElementById('scroller');
    this.#turns = document.getElementById('turns');
    this.#jump = document.getElementById('jump');
    this.#template = document.getElementById('turn').content.firstElementChild;
    this.following = true;
    this.#scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener('click', () => {
      this.#scroller.focus({ preventScroll: true });
      this.follow();
    });
    const observer = new ResizeObserver(() => this.#keepUp());
    observer.observe(this.#turns);
    observer.observe(this.#scroller);
  }

  clear() {
    this.#parts.clear();
    this.#dirty.clear();
    this.#order = null;
    this.#turns.replaceChildren();
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
    const order = this.#order;
    this.#order = null;
    if (order) this.#place(order);
    for (const turn of this.#dirty) {
      const parts = this.#parts.get(turn.id);
      if (parts) this.#fill(parts, turn);
    }
    this.#dirty.clear();
    this.#keepUp();
  }

  #place(order) {
    const gone = new Set(this.#parts.keys());
    let next = this.#turns.firstElementChild;
    for (const { id } of order) {
      gone.delete(id);
      let parts = this.#parts.get(id);
      if (!parts) {
        parts = this.#build(id);
        this.#parts.set(id, parts);
      }
      if (parts.root === next) next = next.nextElementSibling;
      else this.#turns.insertBefore(parts.root, next);
    }
    for (const id of gone) {
      this.#parts.get(id).root.remove();
      this.#parts.delete(id);
    }
  }

  #build(id) {
    const root = document.importNode(this.#template, true);
    const parts = { root };
    for (const side of ['said', 'reply']) {
      const node = root.querySelector(`.${side}`);
      const failure = node.querySelector('.failure');
      const button = failure.querySelector('button');
      button.addEventListener('click', () => this.#act(button.dataset.action, id));
      parts[side] = {
        node,
        text: node.querySelector('.text'),
        meta: node.querySelector('.meta'),
        failure,
        reason: failure.querySelector('p'),
        button,
      };
    }
    parts.progress = root.querySelector('.progress');
    parts.progressText = parts.progress.lastElementChild;
    return parts;
  }

  #fill(parts, turn) {
    const { said, reply, progress } = parts;
    const failure = failureOf(turn);
    const progressText = progressOf(turn);

    said.node.hidden = turn.text === null;
    if (turn.text !== null) renderText(said.text, turn.text);
    said.node.dataset.state = turn.state;
    setText(said.meta, turn.state === 'sending' ? 'Sending' : turn.stored ? timeOf(turn.timestamp) : '');
    this.#showFailure(said, turn.stored ? null : failure);

    reply.node.hidden = !turn.reply && progressText === null && !(failure && turn.stored);
    renderText(reply.text, turn.reply?.text ?? '');
    reply.text.hidden = !turn.reply?.text;
    reply.node.classList.toggle('growing', turn.state === 'waiting' && Boolean(turn.reply?.text));
    setText(reply.meta, ENDINGS[turn.reply?.finishReason] ?? '');
    this.#showFailure(reply, turn.stored ? failure : null);

    progress.hidden = progressText === null;
    setText(parts.progressText, progressText ?? '');
    clearTimeout(parts.timer);
    const left = (turn.status?.until ?? 0) - Date.now();
    if (!progress.hidden && left > 0) parts.timer = setTimeout(() => this.touch(turn), (left % 1000) + 10);
  }

  #showFailure(side, failure) {
    side.failure.hidden = !failure;
    if (!failure) return;
    setText(side.reason, failure.text);
    side.button.hidden = !failure.action;
    side.button.dataset.action = failure.action ?? '';
    setText(side.button, failure.label);
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
