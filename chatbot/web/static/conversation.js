/**
 * The messages of one chat: pure data, no DOM and no network.
 *
 * A turn is one message of the person with the reply to it, so a reply always stands after what it
 * answers. Everything is keyed by id: whatever is replayed, each message is here once.
 *
 * turn.state: `sending` (no ack yet), `waiting` (stored, will be answered), `failed`, `done`.
 */

import { Reply } from './reply.js';

/** Which turn must be known before a frame can be taken. */
function subjectOf(frame) {
  if (frame.type === 'message' || frame.type === 'delta') return frame.reply_to ?? null;
  return frame.id ?? null;
}

function newTurn(id, text, { stored = false, timestamp = null } = {}) {
  return {
    id,
    text, // null when a reply stands alone
    timestamp,
    stored, // the server holds it
    state: stored ? 'waiting' : 'sending',
    heard: false, // on this connection the server spoke of it
    retrying: false, // a retry was asked for, and nothing heard of it yet
    status: null, // {state, until}
    error: null, // {code, message, until}
    reply: null,
    sentAt: 0,
    refusals: 0, // how often the server could not take it, and it was sent again
  };
}

export class Conversation {
  #turns = new Map();
  #parked = [];
  #sure = true; // of the order of the messages
  #listener;

  /** `listener` may have changed(turn), ordered(), finished(turn) and failed(turn). */
  constructor(listener = {}) {
    this.#listener = listener;
    this.order = [];
    this.cursor = null; // the last message of the server's log that is held here
  }

  get(id) {
    return this.#turns.get(id);
  }

  /** Messages that the server has not confirmed, in the order of writing. */
  get unsent() {
    return this.order.filter((turn) => turn.state === 'sending');
  }

  get waiting() {
    return this.order.filter((turn) => turn.state === 'waiting');
  }

  /** How many frames wait for a history that knows what they are about. */
  get parked() {
    return this.#parked.length;
  }

  add(id, text, timestamp = null) {
    const turn = newTurn(id, text, { timestamp });
    this.#insert(turn, this.order.length);
    return turn;
  }

  remove(turn) {
    this.#turns.delete(turn.id);
    this.order = this.order.filter((other) => other !== turn);
    this.#listener.ordered?.();
  }

  /** To be sent once more, under its old id. */
  sendAgain(turn) {
    turn.state = 'sending';
    turn.error = null;
    turn.sentAt = 0;
    turn.refusals = 0;
    this.#move(turn, this.order.length);
    this.#changed(turn);
  }

  /** To be answered once more. */
  retry(turn) {
    turn.state = 'waiting';
    turn.error = null;
    turn.retrying = true;
    turn.heard = true;
    this.#changed(turn);
  }

  fail(turn, error) {
    if (turn.state === 'done') return;
    turn.state = 'failed';
    turn.error = error;
    turn.status = null;
    turn.retrying = false;
    if (error.code !== 'expired') turn.reply = null;
    this.#changed(turn);
  }

  /** A new connection. False when the history is needed, as with apply(). */
  begin(pending) {
    for (const turn of this.order) {
      turn.heard = false;
      turn.status = null;
    }
    this.#sure = true;
    for (const id of pending) {
      const turn = this.#turns.get(id);
      if (turn) this.#store(turn, true);
      else this.#sure = false;
    }
    for (const turn of this.waiting) this.#changed(turn);
    return this.#sure;
  }

  /** Stored messages that should be answered, but of which this connection has said nothing. */
  get silent() {
    return this.waiting.filter((turn) => !turn.heard);
  }

  /** Takes a frame. False when the history is needed, for an unknown message or for its place. */
  apply(frame) {
    if (frame.type === 'message') this.cursor = frame.id;
    const subject = subjectOf(frame);
    if (subject === null || this.#turns.has(subject)) {
      this.#sure = frame.source !== 'human' || this.#turns.has(frame.id);
      this.#take(frame, subject);
      return this.#sure;
    }
    if (this.#turns.has(frame.id)) return true; // a reply that stands alone, replayed
    this.#parked.push(frame);
    return false;
  }

  /**
   * Takes a whole history. `parked` is what this.parked was when the history was asked for: frames
   * parked since may still be about something newer. False when another history is needed for them.
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
    let enough = true;
    frames.forEach((frame, index) => {
      const subject = subjectOf(frame);
      if (this.#turns.has(subject)) this.#take(frame, subject);
      else if (index >= parked) {
        this.#parked.push(frame);
        enough = false;
      } else if (frame.type === 'message') this.#take(frame, null);
    });
    return enough;
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
        this.#write(turn ?? this.#alone(frame.id), frame);
        break;
      case 'message':
        if (frame.source === 'human') this.#takeHuman(frame);
        else this.#finish(turn ?? this.#alone(frame.id), frame);
        break;
      case 'error':
        this.#takeError(turn, frame);
        break;
      default:
    }
  }

  #acknowledge(turn) {
    if (turn.state === 'failed' && turn.stored && !turn.retrying) return;
    // While an earlier reply may still be on its way, the cursor stays before it.
    if (!turn.stored && this.waiting.length === 0) this.cursor = turn.id;
    // A second ack says nothing new: the reply may have failed meanwhile.
    this.#store(turn, !turn.stored || turn.retrying);
    this.#changed(turn);
  }

  /** The server holds this message. */
  #store(turn, heard) {
    const fresh = !turn.stored;
    turn.stored = true;
    turn.heard ||= heard;
    if (heard) turn.retrying = false;
    if (turn.state === 'sending' || (fresh && turn.state === 'failed')) {
      turn.state = 'waiting';
      turn.error = null;
    }
    if (fresh) this.#toEnd(turn);
  }

  /** After all else that the server holds, as far as is known here. */
  #toEnd(turn) {
    const last = this.order.findLastIndex((other) => other.stored);
    if (this.order[last] === turn) return;
    this.#sure = false;
    this.#move(turn, last);
  }

  #noteStatus(turn, { state, retry_in: retryIn }) {
    if (turn.state === 'done') return;
    this.#awaken(turn);
    turn.status = { state, until: retryIn == null ? null : Date.now() + retryIn * 1000 };
    this.#changed(turn);
  }

  #write(turn, { id, offset, msg }) {
    if (turn.reply?.whole) return;
    this.#awaken(turn);
    if (turn.reply?.id !== id) turn.reply = new Reply(id);
    turn.reply.write(offset, msg);
    this.#changed(turn);
  }

  /** Something is being done about this message, whatever was thought of it before. */
  #awaken(turn) {
    this.#store(turn, true);
    turn.state = 'waiting';
    turn.error = null;
    turn.status = null;
  }

  #takeHuman({ id, msg, timestamp }) {
    let turn = this.#turns.get(id);
    if (turn) {
      this.#store(turn, false);
      turn.text = msg;
      turn.timestamp = timestamp ?? turn.timestamp;
      this.#changed(turn);
    } else {
      turn = newTurn(id, msg, { stored: true, timestamp });
      this.#insert(turn, this.order.findLastIndex((other) => other.stored) + 1);
    }
  }

  #finish(turn, frame) {
    if (turn.reply?.whole && turn.reply.id === frame.id) return;
    const alone = this.#turns.get(frame.id);
    if (alone && alone !== turn) this.remove(alone);
    const expected = turn.state !== 'done' && (turn.heard || turn.sentAt > 0);
    this.#store(turn, true);
    if (turn.reply?.id !== frame.id) turn.reply = new Reply(frame.id);
    turn.reply.finish(frame);
    turn.state = 'done';
    turn.status = null;
    turn.error = null;
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

  /** A turn for a reply to nothing that is known. */
  #alone(id) {
    let turn = this.#turns.get(id);
    if (!turn) {
      turn = newTurn(id, null, { stored: true });
      this.#insert(turn, this.order.findLastIndex((other) => other.stored) + 1);
    }
    return turn;
  }

  /**
   * The order of the server's log. What it does not hold any more stands before that, and what it does not hold yet
   * stays where it was, or goes to the end.
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

  /** Messages are answered in order, so one without a reply before one with a reply has failed. */
  #failSkipped() {
    const lastDone = this.order.findLastIndex((turn) => turn.state === 'done' && turn.text !== null);
    for (const turn of this.order.slice(0, Math.max(0, lastDone))) {
      if (turn.state === 'waiting' && !turn.heard) this.fail(turn, { code: 'model_error' });
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
