/** One message and its reply on the page, with their state. */

import { MarkdownText } from './markdown-text.js';
import { Thinking } from './thinking.js';
import { endingOf, failureOf, noteOf, progressOf } from './turn-texts.js';

const template = (id) => document.getElementById(id).content.firstElementChild;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows ‹ 2/3 › for alternatives, as turns; the shown one is that for which `isShown`. */
function showPlace(side, turns, isShown) {
  const node = side.querySelector('.siblings');
  node.hidden = turns.length < 2;
  if (node.hidden) return;
  const at = turns.findIndex(isShown);
  setText(node.querySelector('.place'), `${at + 1}/${turns.length}`);
  const [back, on] = node.querySelectorAll('button');
  for (const [button, other] of [
    [back, turns[at - 1]],
    [on, turns[at + 1]],
  ]) {
    button.ariaDisabled = String(!other);
    button.dataset.other = other?.id ?? '';
  }
}

export class MessageView {
  #timer = 0;
  #said;
  #reply;
  #row;
  #foot;
  #body;
  #thinking;
  #opinion = null;
  #progress = null;
  #failures = new Map();

  constructor(id) {
    this.root = document.importNode(template('turn'), true);
    this.root.dataset.id = id;
    this.#said = this.root.querySelector('.said');
    this.#reply = this.root.querySelector('.reply');
    this.#row = this.root.querySelector('.row');
    this.#foot = this.root.querySelector('.foot');
    this.#body = new MarkdownText(this.#reply.querySelector('.text'));
    this.#thinking = new Thinking(this.#reply.querySelector('.text'));
  }

  /** The field for a reason is made when it is needed: an input in each of a thousand turns takes long to lay out. */
  #showOpinion(shown) {
    if (shown === Boolean(this.#opinion)) return;
    if (this.#opinion?.contains(document.activeElement)) this.#foot.querySelector('[aria-pressed="true"]')?.focus();
    this.#opinion?.remove();
    this.#opinion = null;
    if (!shown) return;
    this.#row.after(document.importNode(template('opinion'), true));
    this.#opinion = this.#row.nextElementSibling;
    this.#opinion.addEventListener('keydown', (event) => {
      const { key, isComposing, target } = event;
      if (isComposing || !target.matches('input') || !['Enter', 'Escape'].includes(key)) return;
      event.preventDefault();
      if (key === 'Escape') target.value = ''; // the rating stays, without a reason
      this.#opinion.querySelector('button').click();
    });
  }

  /** Draws the state of a turn; `paths` are those of its conversation. `again` is called when a countdown changes. */
  fill(turn, paths, again) {
    const { text, state, stored, reply } = turn;
    const failure = failureOf(turn);
    const progress = progressOf(turn);
    const [saidText, saidMeta] = [this.#said.querySelector('.text'), this.#said.querySelector('.meta')];

    this.#said.hidden = text === null;
    if (text !== null) setText(saidText, text);
    this.#said.dataset.state = state;
    setText(saidMeta, noteOf(turn));
    this.#showFailure(this.#said, stored ? null : failure);
    this.#said.querySelector('.edit').hidden = !stored;
    showPlace(this.#said, paths.messagesBeside(turn), (other) => other.of === turn.of);
    showPlace(this.#reply, paths.repliesBeside(turn), (other) => other === turn);

    this.#reply.hidden = !reply && progress === null && !(failure && stored);
    this.#thinking.set(reply?.reasoning ?? '');
    this.#body.set(reply?.text ?? '', reply?.complete ?? true);
    this.#reply.querySelector('.text').hidden = !reply?.text;
    this.#reply.classList.toggle('growing', state === 'waiting' && Boolean(reply?.text));
    this.#showProgress(progress);
    this.#foot.hidden = !reply?.complete;
    setText(this.#foot.querySelector('.meta'), reply ? endingOf(reply) : '');
    this.#foot.querySelector('.copy').hidden = !reply?.text;
    for (const button of this.#foot.querySelectorAll('[data-rating]')) {
      button.hidden = !reply?.text; // nothing is there to be rated
      button.ariaPressed = String(button.dataset.rating === reply?.rating);
    }
    this.#showOpinion(Boolean(reply?.text && reply.rating && reply.asksWhy));
    this.#showFailure(this.#reply, stored ? failure : null);

    clearTimeout(this.#timer);
    const left = Math.max(turn.status?.until ?? 0, failure ? (turn.error.until ?? 0) : 0) - Date.now();
    if (left > 0) this.#timer = setTimeout(again, (left % 1000) + 10);
  }

  /** Whether some of the reply is not drawn yet. */
  get behind() {
    return this.#body.behind;
  }

  /** Draws the next part of the reply, in bounded time. */
  step() {
    this.#body.step();
  }

  #showProgress(text) {
    if (!this.#progress) {
      if (text === null) return;
      this.#progress = document.importNode(template('progress'), true);
      this.#row.before(this.#progress);
    }
    this.#progress.hidden = text === null;
    setText(this.#progress.lastElementChild, text ?? '');
  }

  #showFailure(side, failure) {
    let node = this.#failures.get(side);
    if (!node) {
      if (!failure) return;
      node = document.importNode(template('failure'), true);
      this.#failures.set(side, node);
      side.append(node);
    }
    node.hidden = !failure;
    if (!failure) return;
    const button = node.querySelector('button');
    setText(node.querySelector('p'), failure.text);
    setText(button, failure.label);
    button.hidden = !failure.action;
    button.disabled = failure.wait > 0;
    button.dataset.act = failure.action;
  }
}
