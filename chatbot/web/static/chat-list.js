/** The list of this browser's chats: which one to open first, and removal of chats whose sessions have ended. */

import { sessionId, showAddress } from './address.js';
import { Chats, titleOf } from './chats.js';
import { checkSession } from './client/api.js';
import { Sidebar } from './sidebar.js';
import { browserStorage, tabStorage } from './storage.js';

const LATEST = 'chat.token';
const DEFAULT_TTL = 3600; // seconds, while the server has not named a session's time to live

export class ChatList {
  #chats = new Chats();
  #sidebar;
  #shown = null; // the Chat that the page shows
  #ttl = null; // seconds that a session lives after its last use

  /** `choose(token, name)` is called for a chat that the user opens. */
  constructor(choose) {
    this.#sidebar = new Sidebar((token) => {
      const entry = this.#chats.get(token);
      if (entry && token !== this.#shown?.token) choose(token, entry.name);
    });
  }

  /** Token of the chat that was open last, in this tab or else in this browser. */
  get latest() {
    return [tabStorage, browserStorage]
      .map((storage) => storage.get(LATEST))
      .find((token) => token && !this.#chats.isForgotten(token));
  }

  /** The entry with this id, or else, without an id, the most recently used one; undefined if there is none. */
  find(id = null) {
    return id ? this.#chats.withId(id) : this.#chats.all[0];
  }

  /** Marks the Chat that the page shows, or null for none, and shows its address. */
  show(chat, { replace = false } = {}) {
    this.#shown = chat;
    if (!chat) {
      this.draw();
      return;
    }
    showAddress(sessionId(chat.token), { replace });
    tabStorage.set(LATEST, chat.token);
    browserStorage.set(LATEST, chat.token);
    if (!this.#chats.get(chat.token)) this.#chats.note(chat.token, { name: chat.name });
  }

  draw() {
    this.#sidebar.draw(this.#chats.all, this.#shown?.token, this.#ttl);
  }

  close() {
    this.#sidebar.close();
  }

  /** Closes the drawer, and leaves the browser's history as it is. */
  hide() {
    this.#sidebar.hide();
  }

  /** Moves the shown chat to the top. */
  noteMessage() {
    this.#chats.note(this.#shown.token, { used: Date.now() });
  }

  /** Names the shown chat after a message, the first one that is loaded, once; returns the title. */
  title(text, isFirst) {
    const title = titleOf(text);
    const { title: known, renamed } = this.#chats.get(this.#shown.token) ?? {};
    if (renamed) return known;
    if (known === '') this.#chats.note(this.#shown.token, { title });
    return isFirst ? title : known || title;
  }

  /** Gives the shown chat a title that the user chose. */
  rename(title) {
    this.#chats.note(this.#shown.token, { title: titleOf(title), renamed: true });
    this.draw();
  }

  /** The shown chat's session was used, and lives for `seconds` from now. */
  renew(seconds = this.#ttl) {
    if (seconds === null || !this.#shown || this.#shown.connection === 'expired') return;
    this.#ttl = seconds;
    this.#chats.note(this.#shown.token, { name: this.#shown.name, expires: Date.now() + seconds * 1000, ttl: seconds });
    this.draw();
  }

  /** Removes a chat whose session has ended. */
  remove(token) {
    this.#chats.remove(token);
    for (const storage of [browserStorage, tabStorage]) {
      if (storage.get(LATEST) === token) storage.set(LATEST, null);
    }
    this.draw();
  }

  /** Removes a chat for good, in every tab. */
  forget(token) {
    if (!this.#chats.isForgotten(token)) this.#chats.forget(token);
    this.remove(token);
  }

  isForgotten(token) {
    return this.#chats.isForgotten(token);
  }

  /** Asks the server for chats that should have ended by now: other clients may have used them. */
  async checkOverdue() {
    for (const { token, ttl } of this.#chats.overdue) {
      if (token === this.#shown?.token && this.#shown.connection !== 'expired') continue;
      try {
        await checkSession(token);
        this.#chats.note(token, { expires: Date.now() + (ttl ?? this.#ttl ?? DEFAULT_TTL) * 1000 });
      } catch (error) {
        if (error.damaged) continue;
        if (!error.expired) return;
        this.remove(token);
      }
    }
  }
}
