/** A client's frames as requests, one after another, so that they keep their order. */

import { bearer, request } from './api.js';
import { ABNORMAL, POLICY, TRY_LATER } from './websocket.js';

/** The close code and reason of a websocket that had failed like a request. */
export function closingOf(error) {
  if (error.expired || error.damaged) return [POLICY, error.expired ? 'Session expired' : error.message];
  return [['rate_limited', 'unavailable'].includes(error.code) ? TRY_LATER : ABNORMAL, ''];
}

export class Posts {
  #token;
  #handler;
  #queue = [];
  #sending = false;
  #closed = false;

  /** `handler` has frame(object), for answers, closed(code, reason), and answered(begun), the time of the request. */
  constructor(token, handler) {
    this.#token = token;
    this.#handler = handler;
  }

  send(frame) {
    this.#queue.push(frame);
    if (!this.#sending) this.#drain();
  }

  /** What is being sent still arrives. */
  close() {
    this.#closed = true;
    this.#queue = [];
  }

  async #drain() {
    this.#sending = true;
    while (this.#queue.length) await this.#post(this.#queue.shift());
    this.#sending = false;
  }

  async #post(frame) {
    const begun = Date.now();
    try {
      const answer = await request('messages', {
        method: 'POST',
        headers: { ...bearer(this.#token), 'Content-Type': 'application/json' },
        body: JSON.stringify(frame),
      });
      if (this.#closed || !answer) return;
      const { reply, failure, ...ack } = answer;
      for (const received of [ack, reply, failure]) if (received) this.#handler.frame(received);
      this.#handler.answered?.(begun);
    } catch (error) {
      if (this.#closed) return;
      if (error.expired || error.code === 'network') this.#handler.closed(...closingOf(error));
      else this.#handler.frame(refusalOf(error, frame));
    }
  }
}

/** The `error` frame about a frame that was refused. */
const refusalOf = ({ code, message, retryAfter }, { id = null }) => ({
  type: 'error',
  code,
  message,
  id,
  retry_after: retryAfter,
});
