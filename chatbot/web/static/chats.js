/** The chats of this browser, in its storage: the most recently used first. Every tab reads and writes them. */

import { sessionId } from './address.js';
import { browserStorage } from './storage.js';

const KEY = 'chat.chats';
const FORGOTTEN = 'chat.forgotten';
const MAX_ENTRIES = 300;
const TITLE_LENGTH = 60; // characters

/** The title of a chat: the first line of its first message. */
export function titleOf(text) {
  const line = text.trim().split('\n', 1)[0].trim();
  const characters = Array.from(line);
  return characters.length > TITLE_LENGTH ? `${characters.slice(0, TITLE_LENGTH - 1).join('')}…` : line;
}

/** A 32-bit FNV-1a hash, which recognizes a forgotten token and does not reveal it. */
function markOf(token) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < token.length; i += 1) hash = Math.imul(hash ^ token.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

function storedList(key) {
  let found;
  try {
    found = JSON.parse(browserStorage.get(key) ?? '[]');
  } catch {
    found = [];
  }
  return Array.isArray(found) ? found : [];
}

const isEntry = (entry) => typeof entry?.token === 'string' && typeof entry.used === 'number';

/**
 * Entries are {token, name, title, renamed, used, expires, ttl}, times in epoch milliseconds, `ttl` in seconds; `expires`
 * and `ttl` are null while unknown. `renamed`: the user chose the title.
 */
export class Chats {
  get all() {
    return storedList(KEY).filter(isEntry);
  }

  get(token) {
    return this.all.find((entry) => entry.token === token);
  }

  /** The entry of the session with this id. */
  withId(id) {
    return this.all.find(({ token }) => sessionId(token) === id);
  }

  /** Entries whose session has ended by this computer's clock. */
  get overdue() {
    return this.all.filter(({ expires }) => expires !== null && expires < Date.now());
  }

  /** Adds or updates an entry, unless the chat was forgotten, in this tab or another. */
  note(token, changes) {
    if (this.isForgotten(token)) return;
    const others = this.all;
    const at = others.findIndex((entry) => entry.token === token);
    const entry =
      at < 0 ? { token, name: '', title: '', used: Date.now(), expires: null, ttl: null } : others.splice(at, 1)[0];
    this.#store([{ ...entry, ...changes }, ...others]);
  }

  remove(token) {
    this.#store(this.all.filter((entry) => entry.token !== token));
  }

  /** Removes an entry for good: no tab can add it again. */
  forget(token) {
    const marks = [markOf(token), ...storedList(FORGOTTEN)].slice(0, MAX_ENTRIES);
    browserStorage.set(FORGOTTEN, JSON.stringify(marks));
    this.remove(token);
  }

  isForgotten(token) {
    return storedList(FORGOTTEN).includes(markOf(token));
  }

  #store(entries) {
    const sorted = entries.sort((one, other) => other.used - one.used).slice(0, MAX_ENTRIES);
    browserStorage.set(KEY, sorted.length ? JSON.stringify(sorted) : null);
  }
}
