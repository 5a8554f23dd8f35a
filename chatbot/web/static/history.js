/** Which part of the server's history a conversation holds: its newest part, which grows page by page. No DOM. */

import { loadPage } from './client/api.js';

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
