/** Connects the start page, the chat page and the list of chats, and handles the window's events. */

import { idInAddress, showAddress } from './address.js';
import { ChatList } from './chat-list.js';
import { setUpChatMenu } from './chat-menu.js';
import { ChatPage } from './chat-page.js';
import { endSession } from './client/api.js';
import { setUpImport } from './file-choice.js';
import { notice, page, shownView } from './page.js';
import { setUpShortcuts } from './shortcuts.js';
import { applyTheme, setUpThemes } from './theme-menu.js';

const CHECK_INTERVAL = 15_000; // milliseconds between checks for chats that have ended

export class App {
  #startPage;
  #list = new ChatList((token, name) => this.#chatPage.open(token, name, false));
  #chatPage;

  constructor(startPage) {
    this.#startPage = startPage;
    this.#chatPage = new ChatPage(this.#list, {
      named: (name) => {
        startPage.name = name;
      },
      left: (hint) => this.#openAnother(hint),
    });
    this.#listenToControls();
    this.#listenToWindow();
  }

  /** Opens a chat whose session was just created. */
  openNew({ token, name }) {
    this.#chatPage.open(token, name, true);
  }

  /** Shows the chat that the address names, or the one that was open last; the start page without one. */
  openFirst() {
    const latest = this.#list.latest ?? this.#list.find()?.token;
    this.#list.draw();
    if (idInAddress()) this.#followAddress();
    else if (latest) this.#chatPage.open(latest, this.#startPage.name, false, { replace: true });
    else if (shownView() !== 'start') this.#startPage.show();
    this.#list.checkOverdue();
  }

  /** Shows the chat used last, when the shown one is gone; the start page when there is no other. */
  #openAnother(hint) {
    const next = this.#list.find();
    if (next) {
      this.#chatPage.open(next.token, next.name, false, { replace: true });
      notice(hint);
    } else {
      showAddress(null, { replace: true });
      this.#startPage.show({ hint });
    }
  }

  /** Shows what the address names: a chat of this browser, or the start page. */
  #followAddress() {
    this.#list.hide();
    const id = idInAddress();
    const entry = id && this.#list.find(id);
    if (entry && entry.token === this.#chatPage.chat?.token) return;
    if (entry) {
      this.#chatPage.open(entry.token, entry.name, false, { replace: true });
      return;
    }
    if (this.#chatPage.chat) this.#chatPage.leave();
    if (id) showAddress(null, { replace: true });
    this.#startPage.show({ hint: id ? 'That chat is not on this device. Start a new one any time.' : '' });
  }

  #startAnother() {
    const { chat } = this.#chatPage;
    this.#list.close();
    if (chat && chat.connection !== 'expired' && chat.conversation.order.length === 0) this.#chatPage.focus();
    else if (this.#startPage.name) this.#startPage.createSession(this.#startPage.name);
    else this.#startPage.show();
  }

  /** Forgets the shown chat here, and has the server delete it; one that cannot be reached deletes it at its end. */
  async #forgetChat() {
    const { token, connection } = this.#chatPage.chat;
    this.#chatPage.forget('The chat is forgotten. Start a new one any time.');
    if (connection === 'expired') return;
    try {
      await endSession(token);
    } catch (error) {
      if (!error.code) throw error;
    }
  }

  #listenToControls() {
    for (const button of [page.newChat, page.newHere, page.endedNew]) {
      button.addEventListener('click', () => this.#startAnother());
    }
    page.openNewest.addEventListener('click', () => {
      const { token, name } = this.#list.find() ?? {};
      if (token) this.#chatPage.open(token, name, false);
    });
    setUpChatMenu({
      shown: () => this.#chatPage.chat,
      rename: (title) => {
        this.#list.rename(title);
        this.#chatPage.redraw();
      },
      forget: () => this.#forgetChat(),
    });
    setUpImport({
      imported: ({ token, name }) => {
        this.#list.close();
        this.#chatPage.open(token, name, false);
      },
      failed: (problem) => {
        if (shownView() === 'start') page.importError.textContent = problem;
        else notice(problem);
      },
    });
    setUpThemes();
    setUpShortcuts({ stop: () => this.#chatPage.stopReply(), type: () => this.#chatPage.focus() });
    page.tryNow.addEventListener('click', () => this.#chatPage.chat?.wake(true));
  }

  #listenToWindow() {
    window.addEventListener('popstate', () => this.#followAddress());
    // Restarts the connection, which shows at once whether the server can still be reached.
    for (const event of ['offline', 'online']) {
      window.addEventListener(event, () => this.#chatPage.chat?.wake(true));
    }
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState !== 'visible') return;
      this.#chatPage.leaveForgotten();
      this.#chatPage.chat?.wake();
      this.#list.checkOverdue();
    });
    window.addEventListener('storage', () => {
      this.#chatPage.leaveForgotten();
      this.#list.draw();
      applyTheme();
    });
    window.addEventListener('pagehide', () => this.#chatPage.save());
    setInterval(() => this.#list.checkOverdue(), CHECK_INTERVAL);
  }
}
