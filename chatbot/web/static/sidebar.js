/** The list of chats: beside the conversation on wide screens, else a drawer over it. */

import { chatPath, sessionId } from './address.js';
import { loadSearch } from './later.js';

const side = document.getElementById('side');
const stage = document.getElementById('stage');
const shade = document.getElementById('shade');
const list = document.getElementById('chats');
const opener = document.getElementById('openChats');
const search = document.getElementById('search');
const noneFound = document.getElementById('noneFound');
const lifetime = document.getElementById('lifetime');

const wide = window.matchMedia('(min-width: 60rem)');
const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

/** The time of today's chats, the day of older ones. */
function when(time) {
  const then = new Date(time);
  return (then.toDateString() === new Date().toDateString() ? clock : calendar).format(then);
}

const SEARCH_DELAY = 300; // milliseconds without typing before messages are searched
const UNITS = Object.entries({ day: 86_400, hour: 3600, minute: 60, second: 1 });

function duration(seconds) {
  for (const [unit, size] of UNITS) {
    const count = Math.round(seconds / size);
    if (count >= 1 && seconds >= size) return count === 1 ? `1 ${unit}` : `${count} ${unit}s`;
  }
  return 'a moment';
}

export class Sidebar {
  #drawn = ''; // as JSON
  #items = new Map(); // token → {drawn, item}
  #entries = [];
  #messages = null; // a MessageSearch, once there was a search
  #searching = 0;

  /** `open(token)` is called for the chat that the user chooses. */
  constructor(open) {
    list.addEventListener('click', (event) => {
      const { target } = event;
      const link = target.closest('a[data-token]');
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // those open another tab or window
      event.preventDefault();
      this.hide();
      open(link.dataset.token);
    });
    search.addEventListener('input', () => this.#filter());
    opener.addEventListener('click', () => this.#open());
    shade.addEventListener('click', () => this.close());
    document.getElementById('closeChats').addEventListener('click', () => this.close());
    side.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.close();
    });
    wide.addEventListener('change', () => this.close());
    // The page was refreshed while the drawer was open.
    if (window.history.state?.drawer) window.history.back();
  }

  /** `entries` are those of Chats, `current` is the token of the shown chat, `ttl` is in seconds. */
  draw(entries, current, ttl) {
    const drawn = JSON.stringify([entries, current, ttl]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#entries = entries;
    const focused = document.activeElement?.dataset?.token;
    const before = this.#items;
    this.#items = new Map();
    for (const entry of entries) this.#items.set(entry.token, this.#item(entry, entry.token === current, before));
    list.replaceChildren(...Array.from(this.#items.values(), ({ item }) => item));
    document.documentElement.dataset.chats = entries.length;
    search.hidden = entries.length < 2;
    if (search.hidden) search.value = '';
    this.#filter();
    if (focused) list.querySelector(`[data-token="${CSS.escape(focused)}"]`)?.focus();
    lifetime.textContent = ttl ? `A chat is kept for ${duration(ttl)} after its last use.` : '';
  }

  /** Closes the drawer, and removes its entry from the browser's history. */
  close() {
    const isOpen = side.classList.contains('open');
    this.hide();
    if (isOpen && window.history.state?.drawer) window.history.back();
  }

  /** Closes the drawer. */
  hide() {
    if (!side.classList.contains('open')) return;
    const inside = side.contains(document.activeElement);
    side.classList.remove('open');
    shade.hidden = true;
    stage.inert = false;
    opener.ariaExpanded = 'false';
    if (inside && !wide.matches) opener.focus();
  }

  #open() {
    side.classList.add('open');
    shade.hidden = false;
    stage.inert = true;
    opener.ariaExpanded = 'true';
    window.history.pushState({ drawer: true }, ''); // Back closes the drawer
    (list.querySelector('[aria-current]') ?? document.getElementById('closeChats')).focus();
  }

  /** Shows the chats whose title holds every word of the search, then also those whose messages do. */
  #filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of list.children) {
      const title = item.querySelector('.title').textContent.toLowerCase();
      item.hidden = !words.every((word) => title.includes(word));
    }
    noneFound.hidden = true;
    clearTimeout(this.#searching);
    if (words.length) this.#searching = setTimeout(() => this.#searchMessages(words), SEARCH_DELAY);
  }

  async #searchMessages(words) {
    const itemOf = (token) => list.querySelector(`[data-token="${CSS.escape(token)}"]`)?.closest('li');
    const part = await loadSearch();
    if (!part) return;
    this.#messages ??= new part.MessageSearch();
    const rest = this.#entries.filter(({ token }) => itemOf(token)?.hidden);
    const done = await this.#messages.find(rest, words, (token) => {
      const item = itemOf(token);
      if (item) item.hidden = false;
    });
    if (done) noneFound.hidden = Array.from(list.children).some((item) => !item.hidden);
  }

  /** The element of an entry, which is the one of before if nothing has changed. */
  #item({ token, title, used }, current, before) {
    const drawn = JSON.stringify([title, when(used), current]);
    if (before.get(token)?.drawn === drawn) return before.get(token);
    const item = document.importNode(document.getElementById('chatEntry').content.firstElementChild, true);
    const link = item.querySelector('a');
    link.dataset.token = token;
    link.href = chatPath(sessionId(token));
    if (current) link.setAttribute('aria-current', 'true');
    link.querySelector('.title').textContent = title || 'New chat';
    link.querySelector('time').textContent = when(used);
    return { drawn, item };
  }
}
