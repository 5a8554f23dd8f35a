/** One message and its reply on the page, with their state. */

import { MarkdownText } from './markdown-text.js';
import { Thinking } from './thinking.js';

const FAILURES = {
  model_error: 'The reply failed.',
  unavailable: 'Not sent: the server is not available.',
  rate_limited: 'Not sent: too many messages in a short time.',
  too_many_pending: 'Not sent: earlier messages still wait for a reply.',
  message_too_long: 'Not sent: the message is too long.',
  empty_message: 'Not sent: the message is empty.',
  expired: 'The chat expired before this was answered.',
};
const EDITABLE = new Set(['message_too_long', 'empty_message', 'invalid_id', 'expired', 'session_damaged']);

/** Whether a message that failed with this error can be sent again as it is. */
export const isSendable = ({ code, until }) => !EDITABLE.has(code) && !secondsUntil(until);

const ENDINGS = {
  length: 'Ended at the length limit',
  content_filter: 'Cut off by the provider’s content filter',
  stopped: 'Stopped',
};

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const template = (id) => document.getElementById(id).content.firstElementChild;

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

function secondsUntil(time) {
  return Math.max(0, Math.ceil(((time ?? 0) - Date.now()) / 1000));
}

/** What went wrong, and the button for it: {text, action, label, wait}, `wait` in seconds until it is enabled. */
function failureOf({ state, error, stored }) {
  if (state !== 'failed') return null;
  const wait = secondsUntil(error.until);
  let text = FAILURES[error.code] ?? (error.message || 'Something went wrong.');
  if (stored && error.code !== 'expired') {
    const reason = error.code === 'model_error' ? error.message : '';
    text = [FAILURES.model_error, reason].filter(Boolean).join(' ');
  }
  if (!stored && error.code === 'expired') text = 'Not sent: the chat has expired.';
  if (wait) text += ` You can try again in ${seconds(wait)}.`;
  if (stored) return { text, wait, action: error.code === 'expired' ? '' : 'retry', label: 'Retry' };
  if (EDITABLE.has(error.code)) return { text, wait, action: 'edit', label: 'Edit' };
  return { text, wait, action: 'sendAgain', label: 'Send again' };
}

/** The text beside the animated dots, or null when they are not shown. */
function progressOf({ state, status, reply, stored }) {
  if (state !== 'waiting' || !stored) return null;
  if (status?.state === 'loading') return 'Loading the model';
  if (status?.state === 'retrying') {
    const left = secondsUntil(status.until);
    return `The model is not available. Trying again${left ? ` in ${seconds(left)}` : ''}`;
  }
  return reply?.text ? null : '';
}

/** The note below a reply that ended early, or has no text. */
function endingOf({ finishReason, text }) {
  return ENDINGS[finishReason] ?? (text ? '' : 'The model returned no text');
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
    this.#foot = this.root.querySelector('.foot');
    this.#body = new MarkdownText(this.#reply.querySelector('.text'));
    this.#thinking = new Thinking(this.#reply.querySelector('.text'));
  }

  /** The field for a reason is made when it is needed: an input in each of a thousand turns takes long to lay out. */
  #showOpinion(shown) {
    if (shown === Boolean(this.#opinion)) return;
    this.#opinion?.remove();
    this.#opinion = null;
    if (!shown) return;
    this.#foot.after(document.importNode(template('opinion'), true));
    this.#opinion = this.#foot.nextElementSibling;
    this.#opinion.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.isComposing) this.#opinion.querySelector('button').click();
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
    setText(saidMeta, state === 'sending' ? 'Sending' : stored ? timeOf(turn.timestamp) : '');
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
      button.ariaPressed = String(button.dataset.rating === reply?.rating);
    }
    this.#showOpinion(Boolean(reply?.rating && reply.asksWhy));
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
      this.#foot.before(this.#progress);
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
