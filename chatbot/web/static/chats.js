/** The chats of this browser, newest first, each for as long as its session lives. */

import { browserMemory } from './session.js';

const KEY = 'chat.chats';
const FORGOTTEN = 'chat.forgotten';
const MOST = 100;
const TITLE_LENGTH = 60;

/** A chat is called by its first line. */
export function titleOf(text) {
  const line = text.trim().split('\n', 1)[0].trim();
  const characters = Array.from(line);
  return characters.length > TITLE_LENGTH ? `${characters.slice(0, TITLE_LENGTH - 1).join('')}…` : line;
}

/** Tells a forgotten token again (32-bit FNV-1a), but does not give it away. */
function markOf(token) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < token.length; i += 1) hash = Math.imul(hash ^ token.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

function storedList(key) {
  let found;
  try {
    found = JSON.parse(browserMemory.get(key) ?? '[]');
  } catch {
    found = [];
  }
  return Array.isArray(found) ? found : [];
}

const isEntry = (entry) => typeof entry?.token === 'string' && typeof entry.used === 'number';

/** Entries are {token, name, title, used, expires}; times are milliseconds, `expires` null while unknown. */
export class Chats {
  get all() {
    return storedList(KEY).filter(isEntry);
  }

  get(token) {
    return this.all.find((entry) => entry.token === token);
  }

  /** Those whose session has ended by this computer's clock. */
  get overdue() {
    return this.all.filter(({ expires }) => expires !== null && expires < Date.now());
  }

  /** Notes what is new about a chat, unless it was forgotten, maybe in another tab. */
  note(token, news) {
    if (this.isForgotten(token)) return;
    const others = this.all;
    const at = others.findIndex((entry) => entry.token === token);
    const entry = at < 0 ? { token, name: '', title: '', used: Date.now(), expires: null } : others.splice(at, 1)[0];
    this.#keep([{ ...entry, ...news }, ...others]);
  }

  remove(token) {
    this.#keep(this.all.filter((entry) => entry.token !== token));
  }

  /** Removes a chat for good: no tab notes it again. */
  forget(token) {
    const marks = [markOf(token), ...storedList(FORGOTTEN)].slice(0, MOST);
    browserMemory.set(FORGOTTEN, JSON.stringify(marks));
    this.remove(token);
  }

  isForgotten(token) {
    return storedList(FORGOTTEN).includes(markOf(token));
  }

  #keep(entries) {
    const sorted = entries.sort((one, other) => other.used - one.used).slice(0, MOST);
    browserMemory.set(KEY, sorted.length ? JSON.stringify(sorted) : null);
  }
}
