/** Merges the newest page of the history, again until the conversation contains every message that frames were about. No DOM. */

import { ApiError, backoff, pause } from './client/api.js';

export class HistorySync {
  #history;
  #handler;
  #running = null;
  #again = false;
  #isClosed = false;

  /**
   * `handler` has loaded(session), failed(attempt), called before each wait for another attempt, and ended(error), called
   * with the ApiError of a session that has expired or is damaged.
   */
  constructor(history, handler) {
    this.#history = history;
    this.#handler = handler;
  }

  close() {
    this.#isClosed = true;
  }

  /** Resolves when the history has been merged. A call during a merge causes another one. */
  run() {
    this.#again = true;
    this.#running ??= this.#runUntilKnown();
    return this.#running;
  }

  async #runUntilKnown() {
    for (let attempt = 0; this.#again && !this.#isClosed; ) {
      this.#again = false;
      try {
        const loaded = await this.#history.loadNewest();
        if (!loaded) return;
        this.#handler.loaded(loaded.session);
        if (!loaded.complete) this.#again = true;
        attempt = 0;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (this.#isClosed) return;
        if (error.expired || error.damaged) {
          this.#handler.ended(error);
          return;
        }
        this.#again = true;
        this.#handler.failed(attempt);
        await pause(Math.max(backoff(attempt), (error.retryAfter ?? 0) * 1000));
        attempt += 1;
      }
    }
    this.#running = null;
  }
}
