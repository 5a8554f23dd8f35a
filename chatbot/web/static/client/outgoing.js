/** Frames that ask for a reply: they are sent again until the server acknowledges or refuses them. */

import { backoff } from './api.js';

const RESENDS = 5; // while the server answers that it is unavailable

export class Outgoing {
  #entries = new Map(); // id → {frame, sentAt, dueAt, refusals}; sentAt is 0 before it is sent on this connection
  #send;

  /** `send(frame)` returns whether the frame was sent. */
  constructor(send) {
    this.#send = send;
  }

  get ids() {
    return [...this.#entries.keys()];
  }

  add(frame) {
    this.#entries.set(frame.id, { frame, sentAt: 0, dueAt: 0, refusals: 0 });
  }

  drop(id) {
    this.#entries.delete(id);
  }

  /** A new connection: nothing was sent on it. */
  renew() {
    for (const entry of this.#entries.values()) Object.assign(entry, { sentAt: 0, dueAt: 0 });
  }

  /** Sends what is due, in the order in which it was added. */
  flush() {
    const now = Date.now();
    for (const entry of this.#entries.values()) {
      if (!entry.sentAt && entry.dueAt <= now && this.#send(entry.frame)) entry.sentAt = now;
    }
  }

  /** Whether a frame was sent more than `limit` milliseconds ago, and had no answer. */
  isOverdue(limit) {
    return [...this.#entries.values()].some(({ sentAt }) => sentAt && Date.now() - sentAt > limit);
  }

  /**
   * Returns what a client is to see of a received frame, or null. Its own message, which comes back on some transports,
   * says that it is stored; so does its own regeneration.
   */
  receive(frame) {
    const { type, id } = frame;
    const entry = this.#entries.get(id);
    const isOwn = type === 'request' || (type === 'message' && frame.source === 'human');
    if (!entry || !(isOwn || type === 'ack' || type === 'error')) return frame;
    if (type === 'error' && frame.code === 'unavailable' && entry.refusals < RESENDS) {
      entry.refusals += 1;
      entry.sentAt = 0;
      entry.dueAt = Date.now() + Math.max(backoff(entry.refusals), (frame.retry_after ?? 0) * 1000);
      return null;
    }
    this.#entries.delete(id);
    if (!isOwn) return frame;
    return type === 'request' ? { ...frame, type: 'ack' } : { type: 'ack', id, parent: frame.parent };
  }
}
