/** A session's frames by long polls; the client's own as requests. */

import { bearer, request } from './api.js';
import { closingOf, Posts } from './posts.js';
import { ABNORMAL } from './websocket.js';

const WAIT = 25; // seconds that the server may wait for something to happen; proxies often cut off after 30
const LIMIT = 40_000; // milliseconds for an answer

export class PollingLink {
  #abort = new AbortController();
  #handler;
  #posts;

  /** `handler` has frame(object) and closed(code, reason), which is not called after `close`. */
  constructor(token, after, handler) {
    this.#handler = handler;
    this.#posts = new Posts(token, { frame: handler.frame, closed: (code, reason) => this.#end(code, reason) });
    this.#run(token, after);
  }

  send(frame) {
    this.#posts.send(frame);
    return true;
  }

  close() {
    this.#abort.abort();
    this.#posts.close();
  }

  #end(code, reason) {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#handler.closed(code, reason);
  }

  async #run(token, after) {
    let query = { wait: 0, ...(after ? { after } : {}) };
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const timer = setTimeout(() => this.#end(ABNORMAL, ''), LIMIT);
      try {
        const answer = await request(`messages?${new URLSearchParams(query)}`, { headers: bearer(token), signal });
        for (const frame of answer.frames) if (!signal.aborted) this.#handler.frame(frame);
        query = { wait: WAIT, after: answer.after };
      } catch (error) {
        this.#end(...closingOf(error));
      }
      clearTimeout(timer);
    }
  }
}
