/** The start page: asks for the user's name and creates sessions. */

import { createSession } from './client/api.js';
import { notice, page, shownView, showView } from './page.js';
import { browserStorage } from './storage.js';

const NAME = 'chat.name';

function explain({ code, message, retryAfter }) {
  if (code === 'invalid_name') return 'This name cannot be used. Please write one of up to 64 ordinary characters.';
  if (code === 'rate_limited') return `Too many new chats. Try again in ${retryAfter ?? 'a few'} seconds.`;
  if (code === 'network') return 'The server cannot be reached. Try again in a moment.';
  return message;
}

export class StartPage {
  #name = browserStorage.get(NAME) ?? '';
  #created;
  #hint = page.startHint.textContent;

  /** `created(session)` is called with each new session. */
  constructor(created) {
    this.#created = created;
    page.startForm.addEventListener('submit', () => this.#submit());
  }

  /** Shows the page when it is opened; early.js noted whether the form was submitted before. */
  begin() {
    this.show();
    if ('submitted' in document.documentElement.dataset) this.#submit();
  }

  /** The user's name, empty until it is known. */
  get name() {
    return this.#name;
  }

  set name(name) {
    this.#name = name;
    browserStorage.set(NAME, name);
  }

  show({ problem = '', hint = '' } = {}) {
    showView('start');
    page.startHint.textContent = hint || this.#hint;
    document.title = 'Chat';
    page.title.textContent = 'Chat';
    page.name.value ||= this.#name;
    page.startError.textContent = problem;
    page.name.focus();
  }

  #submit() {
    const name = page.name.value.trim();
    if (name) this.createSession(name);
    else this.show({ problem: 'Please write your name.' });
  }

  async createSession(name) {
    page.startButton.disabled = true;
    page.newChat.disabled = true;
    try {
      this.#created(await createSession(name));
    } catch (error) {
      if (!error.code) throw error;
      if (shownView() === 'start' || error.code === 'invalid_name') this.show({ problem: explain(error) });
      else notice(explain(error));
    } finally {
      page.startButton.disabled = false;
      page.newChat.disabled = false;
    }
  }
}
