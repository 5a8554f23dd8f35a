/** Text that the server has not stored, and the place of reading, kept in this tab so that it survives a refresh and the end of its session. */

import { tabStorage } from './storage.js';

const CARRIED = 'chat.carried';
const keyOf = (token) => `chat.unstored.${token}`;
const placeKey = (token) => `chat.place.${token}`;

export class Unsent {
  #carried = tabStorage.get(CARRIED) ?? ''; // from expired chats, for the next new chat

  /** Saves the unstored messages of a chat; those of an expired chat, and `draft`, as text for the next new chat. */
  save(chat, draft) {
    const expired = chat.connection === 'expired';
    const messages = expired ? [] : chat.conversation.unstored;
    tabStorage.set(keyOf(chat.token), messages.length ? JSON.stringify(messages) : null);
    if (expired) tabStorage.set(CARRIED, this.#withTextOf(chat, draft));
  }

  /** As `save`, for a chat that the page leaves. */
  leave(chat, draft) {
    this.save(chat, draft);
    if (chat.connection === 'expired') this.#carried = this.#withTextOf(chat, draft);
  }

  /** The messages that `save` stored for a chat. */
  messagesOf(token) {
    return JSON.parse(tabStorage.get(keyOf(token)) ?? '[]');
  }

  /** The place where the user was reading a chat: {id, top}, or null for its end. */
  placeOf(token) {
    return JSON.parse(tabStorage.get(placeKey(token)) ?? 'null');
  }

  savePlace(token, place) {
    tabStorage.set(placeKey(token), place ? JSON.stringify(place) : null);
  }

  forget(token) {
    tabStorage.set(placeKey(token), null);
    tabStorage.set(keyOf(token), null);
  }

  /** The text for a new chat; only the first one gets it. */
  takeCarried() {
    const text = this.#carried;
    this.#carried = '';
    tabStorage.set(CARRIED, null);
    return text;
  }

  #withTextOf(chat, draft) {
    return [this.#carried, ...chat.conversation.unstored.map(({ text }) => text), draft]
      .filter((text) => text.trim())
      .join('\n\n');
  }
}
