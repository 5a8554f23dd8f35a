/** The server's history: which part of it a conversation holds, and the merging of its newest page. No DOM. */

import { ApiError, backoff, loadPage, pause } from './client/api.js';

/** A conversation holds the newest part, which grows page by page. */
export class History {
  #token;
  #conversation;
  #before = null; // id of the oldest loaded message, null when there is none older
  #started; // the conversation holds the newest part
  #resumeAfter = null; // id of the last message before those that a connection did not replay
  #closed = false;

  /** A `fresh` session's history is empty. */
  constructor(token, conversation, fresh) {
    this.#token = token;
    this.#conversation = conversation;
    this.#started = fresh;
  }

  /** The server has messages that are older than those loaded. */
  get hasEarlier() {
    return this.#before !== null;
  }

  close() {
    this.#closed = true;
  }

  /** The server did not replay what follows the conversation's cursor. */
  noteGap() {
    this.#resumeAfter ??= this.#conversation.cursor;
  }

  /**
   * Loads and merges the newest page. Returns its session and whether it contains all that frames were about, or null
   * when the chat was closed meanwhile. Throws an ApiError.
   */
  async loadNewest() {
    const mark = this.#conversation.mark();
    const session = await loadPage(this.#token);
    if (this.#closed) return null;
    const gap =
      this.#resumeAfter !== null && session.more && !session.messages.some(({ id }) => id === this.#resumeAfter);
    // More came than a page: what was loaded does not adjoin it, and can be loaded again.
    if (gap) this.#conversation.forgetStored();
    if (gap || !this.#started) this.#before = session.before;
    this.#started = true;
    this.#resumeAfter = null;
    return { session, complete: this.#conversation.merge(session.messages, mark) };
  }

  /** Loads the page before the oldest loaded message. Throws an ApiError. */
  async loadEarlier() {
    const before = this.#before;
    try {
      const page = await loadPage(this.#token, { before });
      if (this.#closed || before !== this.#before) return;
      this.#conversation.prepend(page.messages);
      this.#before = page.before;
    } catch (error) {
      if (error.code !== 'unknown_message') throw error;
      // The server has dropped this message, and all before it.
      if (before === this.#before) this.#before = null;
    }
  }
}

/** Merges the newest page, again until the conversation contains every message that frames were about. */
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
