/** One turn: a human message and its reply. Pure data, no DOM and no network. */

import { Reply } from './client/reply.js';

/** The id of the turn that a frame is about, or null. */
export function subjectOf(frame) {
  if (['message', 'delta', 'reasoning'].includes(frame.type)) return frame.request ?? frame.reply_to ?? null;
  if (frame.type === 'selected' || frame.type === 'feedback') return null;
  return frame.id ?? null;
}

/** The error of a turn, from a frame. */
export const errorOf = ({ code, message, reason = null, retry_after: retryAfter }) => ({
  code,
  message,
  reason,
  until: retryAfter ? Date.now() + retryAfter * 1000 : null,
});

export class Turn {
  constructor(id, text, { stored = false, timestamp = null, of = id, parent = undefined, edits = null } = {}) {
    this.id = id; // of the request: the message's, or a regeneration's own
    this.of = of; // id of the human message
    this.parent = parent; // id of what the message follows, null at the beginning, undefined while unknown
    this.edits = edits; // id of the message in whose place this one is to stand, until it is stored
    this.text = text; // null when the message of a reply is not known
    this.timestamp = timestamp;
    this.stored = stored; // the server has stored the message
    this.state = stored ? 'waiting' : 'sending'; // sending (no ack yet), waiting (for the reply), failed, done
    this.mentioned = false; // by a frame on this connection
    this.retrying = false; // a retry was requested, and no frame about it has arrived
    this.status = null; // {state, until}: what delays the reply, and until when, in epoch milliseconds
    this.error = null; // {code, message, reason, until}; with a `reason` the same request would fail again
    this.reply = null;
    this.sent = false; // by this page
    this.held = false; // not acknowledged, and there is no connection
  }

  /** The message will be sent again, under its id. */
  sendAgain() {
    this.state = 'sending';
    this.error = null;
  }

  /** The frame that sends the message. */
  get frame() {
    const { id, text: msg, edits } = this;
    return edits ? { type: 'edit', of: edits, msg, id } : { type: 'message', msg, id };
  }

  /** Another reply was requested. */
  retry() {
    this.state = 'waiting';
    this.error = null;
    this.retrying = true;
    this.mentioned = true;
  }

  fail(error) {
    this.state = 'failed';
    this.error = error;
    this.status = null;
    this.retrying = false;
    if (error.code !== 'expired') this.reply = null;
  }

  /** The server has stored the message. Returns whether that is news. */
  markStored(mentioned) {
    const news = !this.stored;
    this.stored = true;
    this.mentioned ||= mentioned;
    if (mentioned) this.retrying = false;
    if (this.state === 'sending' || (news && this.state === 'failed')) {
      this.state = 'waiting';
      this.error = null;
    }
    return news;
  }

  /** The reply is being worked on, even if it had failed. */
  resume() {
    this.state = 'waiting';
    this.error = null;
    this.status = null;
  }

  /** Takes over the reply of another turn, and how far it is. */
  adopt({ reply, state, status, error, mentioned }) {
    Object.assign(this, { reply, state, status, error, mentioned });
  }

  /** A chunk of the reply, or of the thinking before it. */
  write({ type, id, offset, msg }) {
    if (this.reply?.id !== id) this.reply = new Reply(id);
    if (type === 'reasoning') this.reply.think(offset, msg);
    else this.reply.write(offset, msg);
  }

  /** The complete reply. */
  finish(message) {
    if (this.reply?.id !== message.id) this.reply = new Reply(message.id);
    this.reply.finish(message);
    this.state = 'done';
    this.status = null;
    this.error = null;
  }
}
