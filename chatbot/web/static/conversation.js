/**
 * The turns of one chat, in the order of the server's log. Pure data, no DOM and no network.
 *
 * A reply stands after the message that it answers. Turns are keyed by message id, so frames may arrive twice.
 */

import { Turn } from './turn.js';

/** The id of the turn that a frame is about, or null. */
function subjectOf(frame) {
  if (frame.type === 'message' || frame.type === 'delta') return frame.reply_to ?? null;
  return frame.id ?? null;
}

export class Conversation {
  #turns = new Map();
  #parked = []; // frames about messages that are not known yet
  #orderKnown = true;
  #listener;

  /** `listener` may have changed(turn), ordered(), finished(turn) and failed(turn). */
  constructor(listener = {}) {
    this.#listener = listener;
    this.order = [];
    this.cursor = null; // id of the last message of the server's log that is known here
  }

  get(id) {
    return this.#turns.get(id);
  }

  /** Turns whose message has no ack, in the order of writing. */
  get unsent() {
    return this.order.filter((turn) => turn.state === 'sending');
  }

  /** Turns that wait for their reply. */
  get waiting() {
    return this.order.filter((turn) => turn.state === 'waiting');
  }

  /** How many frames wait for a history that contains their message. */
  get parked() {
    return this.#parked.length;
  }

  add(id, text, timestamp = null) {
    const turn = new Turn(id, text, { timestamp });
    this.#insert(turn, this.order.length);
    return turn;
  }

  remove(turn) {
    this.#turns.delete(turn.id);
    this.order = this.order.filter((other) => other !== turn);
    this.#listener.ordered?.();
  }

  sendAgain(turn) {
    turn.sendAgain();
    this.#move(turn, this.order.length);
    this.#changed(turn);
  }

  retry(turn) {
    turn.retry();
    this.#changed(turn);
  }

  fail(turn, error) {
    if (turn.state === 'done') return;
    turn.fail(error);
    this.#changed(turn);
  }

  /** A new connection, with the ids of its pending messages. Returns false when the history is needed. */
  begin(pending) {
    for (const turn of this.order) {
      turn.mentioned = false;
      turn.status = null;
    }
    this.#orderKnown = true;
    for (const id of pending) {
      const turn = this.#turns.get(id);
      if (turn) this.#store(turn, true);
      else this.#orderKnown = false;
    }
    for (const turn of this.waiting) this.#changed(turn);
    return this.#orderKnown;
  }

  /** Turns that wait for their reply, and that no frame on this connection was about. */
  get unmentioned() {
    return this.waiting.filter((turn) => !turn.mentioned);
  }

  /** Applies a frame. Returns false when the history is needed: for an unknown message, or for a message's place. */
  apply(frame) {
    if (frame.type === 'message') this.cursor = frame.id;
    const subject = subjectOf(frame);
    if (subject === null || this.#turns.has(subject)) {
      this.#orderKnown = frame.source !== 'human' || this.#turns.has(frame.id);
      this.#take(frame, subject);
      return this.#orderKnown;
    }
    if (this.#turns.has(frame.id)) return true; // a replayed reply without a known message
    this.#parked.push(frame);
    return false;
  }

  /**
   * Merges an entire history. `parked` is the value of this.parked when the history was requested: frames parked
   * since then may be about newer messages. Returns false when they need another history.
   */
  merge(messages, parked = this.parked) {
    const logged = [];
    for (const message of messages) {
      this.#take({ ...message, type: 'message' }, message.reply_to ?? null);
      logged.push(this.#turns.get(message.reply_to) ?? this.#turns.get(message.id));
    }
    if (messages.length) this.cursor = messages.at(-1).id;
    this.#arrange([...new Set(logged)]);
    this.#failSkipped();

    const frames = this.#parked.splice(0);
    let complete = true;
    frames.forEach((frame, index) => {
      const subject = subjectOf(frame);
      if (this.#turns.has(subject)) this.#take(frame, subject);
      else if (index >= parked) {
        this.#parked.push(frame);
        complete = false;
      } else if (frame.type === 'message') this.#take(frame, null);
    });
    return complete;
  }

  #take(frame, subject) {
    const turn = this.#turns.get(subject);
    switch (frame.type) {
      case 'ack':
        this.#acknowledge(turn);
        break;
      case 'status':
        this.#noteStatus(turn, frame);
        break;
      case 'delta':
        this.#write(turn ?? this.#withoutMessage(frame.id), frame);
        break;
      case 'message':
        if (frame.source === 'human') this.#takeHuman(frame);
        else this.#finish(turn ?? this.#withoutMessage(frame.id), frame);
        break;
      case 'error':
        this.#takeError(turn, frame);
        break;
      default:
    }
  }

  #acknowledge(turn) {
    if (turn.state === 'failed' && turn.stored && !turn.retrying) return;
    // The cursor stays before replies that have not arrived.
    if (!turn.stored && this.waiting.length === 0) this.cursor = turn.id;
    // A repeated ack does not mention the turn: its reply may have failed since.
    this.#store(turn, !turn.stored || turn.retrying);
    this.#changed(turn);
  }

  #store(turn, mentioned) {
    if (turn.markStored(mentioned)) this.#moveAfterStored(turn);
  }

  /** Moves a turn behind all others whose messages are stored. */
  #moveAfterStored(turn) {
    const last = this.order.findLastIndex((other) => other.stored);
    if (this.order[last] === turn) return;
    this.#orderKnown = false;
    this.#move(turn, last);
  }

  #noteStatus(turn, { state, retry_in: retryIn }) {
    if (turn.state === 'done') return;
    this.#resume(turn);
    turn.status = { state, until: retryIn == null ? null : Date.now() + retryIn * 1000 };
    this.#changed(turn);
  }

  #write(turn, frame) {
    if (turn.reply?.complete) return;
    this.#resume(turn);
    turn.write(frame);
    this.#changed(turn);
  }

  #resume(turn) {
    this.#store(turn, true);
    turn.resume();
  }

  #takeHuman({ id, msg, timestamp }) {
    let turn = this.#turns.get(id);
    if (turn) {
      this.#store(turn, false);
      turn.text = msg;
      turn.timestamp = timestamp ?? turn.timestamp;
      this.#changed(turn);
    } else {
      turn = new Turn(id, msg, { stored: true, timestamp });
      this.#insert(turn, this.order.findLastIndex((other) => other.stored) + 1);
    }
  }

  #finish(turn, frame) {
    if (turn.reply?.complete && turn.reply.id === frame.id) return;
    const alone = this.#turns.get(frame.id);
    if (alone && alone !== turn) this.remove(alone);
    const expected = turn.state !== 'done' && (turn.mentioned || turn.sentAt > 0);
    this.#store(turn, true);
    turn.finish(frame);
    this.#changed(turn);
    if (expected) this.#listener.finished?.(turn);
  }

  #takeError(turn, { code, message, retry_after: retryAfter }) {
    if (turn.state === 'done') return;
    turn.retrying = false;
    if (code === 'not_retryable') return;
    if (code === 'model_error') this.#store(turn, true);
    this.fail(turn, { code, message, until: retryAfter ? Date.now() + retryAfter * 1000 : null });
    this.#listener.failed?.(turn);
  }

  /** A turn for a reply whose message is not known. */
  #withoutMessage(id) {
    let turn = this.#turns.get(id);
    if (!turn) {
      turn = new Turn(id, null, { stored: true });
      this.#insert(turn, this.order.findLastIndex((other) => other.stored) + 1);
    }
    return turn;
  }

  /**
   * Puts turns into the order of the server's log. Turns that the log has dropped stand before it. Turns that are not
   * in the log yet go to the end, failed ones keep their place.
   */
  #arrange(logged) {
    const inLog = new Set(logged);
    const lastLogged = this.order.findLastIndex((turn) => inLog.has(turn));
    const isDropped = (turn, index) => index < lastLogged && turn.state === 'done' && !inLog.has(turn);
    const result = [...this.order.filter(isDropped), ...logged];
    this.order.forEach((turn, index) => {
      if (inLog.has(turn) || isDropped(turn, index)) return;
      const before = this.order[index - 1];
      if (turn.state === 'failed' && before && index < lastLogged) {
        result.splice(result.indexOf(before) + 1, 0, turn);
      } else result.push(turn);
    });
    if (result.every((turn, index) => turn === this.order[index])) return;
    this.order = result;
    this.#listener.ordered?.();
  }

  /** The server answers in order, so a message without a reply before one with a reply has failed. */
  #failSkipped() {
    const lastDone = this.order.findLastIndex((turn) => turn.state === 'done' && turn.text !== null);
    for (const turn of this.order.slice(0, Math.max(0, lastDone))) {
      if (turn.state === 'waiting' && !turn.mentioned) this.fail(turn, { code: 'model_error' });
    }
  }

  #insert(turn, index) {
    this.#turns.set(turn.id, turn);
    this.order.splice(index, 0, turn);
    this.#listener.ordered?.();
    this.#changed(turn);
  }

  #move(turn, index) {
    const from = this.order.indexOf(turn);
    const to = Math.min(index, this.order.length - 1);
    if (to <= from) return;
    this.order.splice(from, 1);
    this.order.splice(to, 0, turn);
    this.#listener.ordered?.();
  }

  #changed(turn) {
    this.#listener.changed?.(turn);
  }
}
