/** Finds chats by the texts of their messages, which it loads from the server once, until a chat is used again. */

import { loadMessages } from './client/api.js';

export class MessageSearch {
  #texts = new Map(); // token → {used, text}
  #latest = 0;

  /** Calls `found(token)` for each entry of Chats with all `words` in its messages. Returns false if a later search began. */
  async find(entries, words, found) {
    this.#latest += 1;
    const search = this.#latest;
    for (const { token, used } of entries) {
      const text = await this.#textOf(token, used);
      if (search !== this.#latest) return false;
      if (words.every((word) => text.includes(word))) found(token);
    }
    return true;
  }

  async #textOf(token, used) {
    const known = this.#texts.get(token);
    if (known?.used === used) return known.text;
    try {
      const text = (await loadMessages(token)).map(({ msg }) => msg.toLowerCase()).join('\n');
      this.#texts.set(token, { used, text });
      return text;
    } catch (error) {
      if (!error.code) throw error;
      return ''; // expired, or the server is away
    }
  }
}
