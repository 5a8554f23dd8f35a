/**
 * The turns of one chat that are loaded, in the order of the server's log. Pure data, no DOM and no network.
 *
 * A reply stands after the message that it answers. Turns are keyed by message id, so frames may arrive twice.
 */

import { afterStored, withNewest, withOlder } from './log-order.js';
import { errorOf, subjectOf, Turn } from './turn.js';
import { TurnList } from './turn-list.js';

export class Conversation extends TurnList {
  #alone = new Map(); // id of a message that is not loaded → the turn with its reply
  #failures = new Map(); // id of a message that is not loaded → the error frame about it
  #parked = []; // frames about messages that are not known yet
  #orderKnown = true;

  /** `listener` may have changed(turn), ordered(), finished(turn) and failed(turn). */
  constructor(listener = {}) {
    super(listener);
    this.cursor = null; // id of the last message of the server's log that is known here
  }

  /** A new connection, with the ids of its pending messages. Returns false when the history is needed. */
  begin(pending, requests = {}) {
    for (const [id, of] of Object.entries(requests)) this.regenerate(id, of);
    for (const turn of this.order) {
      turn.mentioned = false;
      turn.status = null;
    }
    this.#orderKnown = true;
    for (const id of pending) {
      const turn = this.#about(id);
      if (turn) this.#store(turn, true);
      else this.#orderKnown = false;
    }
    for (const turn of this.waiting) this.changed(turn);
    return this.#orderKnown;
  }

  /** Turns that wait for their reply, and that no frame on this connection was about. */
  get unmentioned() {
    return this.waiting.filter((turn) => !turn.mentioned);
  }

  /** Applies a frame. Returns false when the history is needed: for an unknown message, or for a message's place. */
  apply(frame) {
    if (frame.type === 'message') this.cursor = frame.id;
    if (frame.request) this.regenerate(frame.request, frame.reply_to);
    const subject = subjectOf(frame);
    if (subject === null || this.#about(subject)) {
      this.#orderKnown = frame.source !== 'human' || this.turns.has(frame.id);
      this.#take(frame, subject);
      return this.#orderKnown;
    }
    if (this.turns.has(frame.id) || this.#failures.has(frame.id)) return true; // about a message that is not loaded
    this.#parked.push(frame);
    return false;
  }

  /** What is known before a page of the history is requested. */
  mark() {
    return { parked: this.#parked.length, stored: new Set(this.order.filter((turn) => turn.stored)) };
  }

  /**
   * Merges the newest page of the history. `mark` was made when it was requested: frames parked since then may be about
   * newer messages. Returns false when they need another page.
   */
  merge(messages, mark = this.mark()) {
    const logged = this.#takeAll(messages);
    if (messages.length) this.cursor = messages.at(-1).id;
    this.setOrder(withNewest(this.order, logged, (turn) => mark.stored.has(turn)));
    this.#parked.splice(0).forEach((frame, index) => {
      const subject = subjectOf(frame);
      if (this.#about(subject)) this.#take(frame, subject);
      else if (index >= mark.parked) this.#parked.push(frame);
      else if (['message', 'delta', 'reasoning'].includes(frame.type)) this.#take(frame, subject);
      else if (frame.type === 'error') this.#failures.set(frame.id, frame);
    });
    return this.#parked.length === 0;
  }

  /** Adds an older page of the history, which ends before the oldest message that was loaded. */
  prepend(messages) {
    const logged = this.#takeAll(messages);
    this.setOrder(withOlder(this.order, logged));
  }

  /** Removes all that the server has stored. */
  forgetStored() {
    for (const { id } of this.order.filter((turn) => turn.stored)) this.turns.delete(id);
    this.#alone.clear();
    this.setOrder(this.order.filter((turn) => !turn.stored));
  }

  /** Takes messages of the history; returns their turns. */
  #takeAll(messages) {
    for (const message of messages) {
      if (message.request) this.regenerate(message.request, message.reply_to);
      this.#take({ ...message, type: 'message' }, message.request ?? message.reply_to ?? null);
    }
    const turnOf = ({ id, reply_to: to, request }) => this.#about(request ?? to) ?? this.turns.get(id);
    return [...new Set(messages.map(turnOf))];
  }

  /** The turn of a message, or of its reply alone. */
  #about(id) {
    return this.turns.get(id) ?? this.#alone.get(id);
  }

  #take(frame, subject) {
    const turn = this.#about(subject);
    switch (frame.type) {
      case 'ack':
        this.#acknowledge(turn, frame);
        break;
      case 'status':
        this.#noteStatus(turn, frame);
        break;
      case 'delta':
      case 'reasoning':
        this.#write(turn ?? this.#withoutMessage(frame), frame);
        break;
      case 'message':
        if (frame.source === 'human') this.#takeHuman(frame);
        else this.#finish(turn ?? this.#withoutMessage(frame), frame);
        break;
      case 'error':
        this.#takeError(turn, frame);
        break;
      case 'selected':
        this.showEnd(frame.id);
        break;
      case 'feedback':
        this.#rate(frame);
        break;
      default:
    }
  }

  #rate({ id, rating, text = null }) {
    const turn = this.paths.turnOf(id);
    if (turn?.reply?.id !== id) return;
    turn.reply.rating = rating;
    turn.reply.opinion = text;
    this.changed(turn);
  }

  #acknowledge(turn, { parent }) {
    if (turn.state === 'failed' && turn.stored && !turn.retrying) return;
    // The cursor stays before replies that have not arrived.
    if (!turn.stored && this.waiting.length === 0) this.cursor = turn.id;
    if (!turn.stored) {
      turn.parent = parent;
      this.show(turn.id);
    }
    // A repeated ack does not mention the turn: its reply may have failed since.
    this.#store(turn, !turn.stored || turn.retrying);
    this.changed(turn);
  }

  #store(turn, mentioned) {
    if (!turn.markStored(mentioned)) return;
    this.#moveAfterStored(turn);
    this.reordered();
  }

  /** Moves a turn behind all others whose messages are stored. */
  #moveAfterStored(turn) {
    const last = afterStored(this.order) - 1;
    if (this.order[last] === turn) return;
    this.#orderKnown = false;
    this.move(turn, last);
  }

  #noteStatus(turn, { state, retry_in: retryIn }) {
    if (turn.state === 'done') return;
    this.#resume(turn);
    turn.status = { state, until: retryIn == null ? null : Date.now() + retryIn * 1000 };
    this.changed(turn);
  }

  #write(turn, frame) {
    if (turn.reply?.complete) return;
    this.#resume(turn);
    turn.write(frame);
    this.changed(turn);
  }

  #resume(turn) {
    this.#store(turn, true);
    turn.resume();
  }

  #takeHuman({ id, msg, timestamp, parent }) {
    let turn = this.turns.get(id);
    if (turn) {
      this.#store(turn, false);
      turn.text = msg;
      turn.parent = parent;
      turn.timestamp = timestamp ?? turn.timestamp;
      this.changed(turn);
    } else {
      turn = new Turn(id, msg, { stored: true, timestamp, parent });
      this.insert(turn, afterStored(this.order));
      this.#adopt(turn);
    }
  }

  /** Gives a turn what is known about its message since before it was loaded. */
  #adopt(turn) {
    const alone = this.#alone.get(turn.id);
    if (alone) {
      this.#alone.delete(turn.id);
      this.remove(alone);
      turn.adopt(alone);
      this.changed(turn);
    }
    const failure = this.#failures.get(turn.id);
    this.#failures.delete(turn.id);
    if (failure) this.fail(turn, errorOf(failure));
  }

  #finish(turn, frame) {
    if (turn.reply?.complete && turn.reply.id === frame.id) return;
    const alone = this.turns.get(frame.id);
    if (alone && alone !== turn) this.remove(alone);
    const expected = turn.state !== 'done' && (turn.mentioned || turn.sent);
    this.#store(turn, true);
    turn.finish(frame);
    this.reordered();
    this.changed(turn);
    if (expected) this.listener.finished?.(turn);
  }

  #takeError(turn, frame) {
    const { code, message } = frame;
    if (turn.state === 'done') return;
    // Polls repeat failures.
    if (turn.state === 'failed' && turn.error.code === code && turn.error.message === message) return;
    turn.retrying = false;
    if (code === 'not_retryable') return;
    if (code === 'model_error') this.#store(turn, true);
    this.fail(turn, errorOf(frame));
    this.listener.failed?.(turn);
  }

  /** A turn for a reply whose message is not loaded. */
  #withoutMessage({ id, reply_to: subject = null }) {
    let turn = this.turns.get(id);
    if (!turn) {
      turn = new Turn(id, null, { stored: true });
      this.insert(turn, afterStored(this.order));
    }
    if (subject !== null) this.#alone.set(subject, turn);
    return turn;
  }
}
