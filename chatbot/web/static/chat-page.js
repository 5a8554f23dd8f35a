/** The chat page: opens one chat at a time, and draws all that depends on its state. */

import { Chat } from './chat.js';
import { ChatStatus } from './chat-status.js';
import { Composer } from './composer.js';
import { ConversationView } from './conversation-view.js';
import { loadClipboard, loadExport } from './later.js';
import { plainText } from './markdown.js';
import { announce, notice, page, showView } from './page.js';
import { TurnActions } from './turn-actions.js';
import { isSendable } from './turn-texts.js';
import { Unsent } from './unsent.js';

const ANNOUNCED = 1_500; // characters of a reply that are announced to screen readers
const UNTITLED = 'New chat';

export class ChatPage {
  #chat = null;
  #list;
  #parent;
  #composer = new Composer((text) => this.say(text));
  #view = new ConversationView(
    (action, id, button) => this.#actions.act(action, id, button),
    () => this.#chat?.loadEarlier(),
  );
  #status = new ChatStatus();
  #unsent = new Unsent();
  #actions = new TurnActions(this.#composer, () => this.#chat);
  #drawScheduled = false;
  #sendableTimer = 0;

  /** `parent` has named(name), called with the user's name, and left(hint), called when there is no chat to show. */
  constructor(list, parent) {
    this.#list = list;
    this.#parent = parent;
    page.stop.addEventListener('click', () => {
      if (page.stop.matches(':focus-visible')) this.#composer.focus();
      else this.#composer.focusIfHandy();
      this.#chat.stop();
    });
    page.sendAll.addEventListener('click', () => {
      for (const turn of this.#refused) this.#chat.sendAgain(turn);
      this.#composer.focusIfHandy();
    });
    page.earlier.addEventListener('click', () => this.#chat.loadEarlier());
    page.suggestions.addEventListener('click', ({ target }) => {
      if (target.closest('button')) this.say(target.closest('button').textContent.trim());
      this.#composer.focusIfHandy();
    });
  }

  /** The Chat that is shown, or null. */
  get chat() {
    return this.#chat;
  }

  /** Opens a chat instead of the shown one. A `fresh` chat's session was just created. */
  open(token, name, fresh, { replace = false } = {}) {
    this.#leave();
    this.#actions.cancel();
    this.#view.clear();
    this.#status.reset();
    notice('');
    const listener = this.#listener(() => chat);
    const chat = new Chat(token, listener, { fresh });
    this.#chat = chat;
    chat.name = name;
    this.#list.show(chat, { replace });
    if (!fresh) chat.conversation.restore(this.#unsent.messagesOf(token));
    this.#composer.open(token, fresh ? this.#unsent.takeCarried() : '');
    showView('chat');
    this.#view.place = fresh ? null : this.#unsent.placeOf(token);
    this.#draw();
    this.#composer.focusIfHandy();
    chat.open();
  }

  say(text) {
    if (this.leaveForgotten()) return;
    notice('');
    this.#view.follow();
    this.#chat.send(text, this.#actions.takeEdited());
    this.#list.noteMessage();
  }

  /** Leaves an edit, or else stops the reply that is being generated. */
  stopReply() {
    if (this.#actions.cancel()) return;
    if (!page.stop.hidden && !page.stop.disabled) this.#chat.stop();
  }

  /** The messages that were not sent, and can be sent again now. */
  get #refused() {
    const canSend = ({ state, stored, error }) => state === 'failed' && !stored && isSendable(error);
    return this.#chat.conversation.order.filter(canSend);
  }

  focus() {
    this.#composer.focus();
  }

  /** Stores what the server does not have, for when the page is opened again. */
  save() {
    if (!this.#chat) return;
    this.#unsent.save(this.#chat, this.#composer.text);
    this.#unsent.savePlace(this.#chat.token, this.#view.place);
  }

  /** Leaves the shown chat, and keeps nothing of it in this browser. */
  forget(hint) {
    const { token } = this.#chat;
    this.#chat.close();
    this.#chat = null;
    this.#list.show(null);
    page.leave.close();
    this.#view.clear();
    this.#composer.forget(token);
    this.#unsent.forget(token);
    this.#list.forget(token);
    this.#parent.left(hint);
  }

  /** Leaves the shown chat for the start page. */
  leave() {
    this.#leave();
    this.#chat = null;
    this.#list.show(null);
    this.#view.clear();
  }

  /** Draws the shown chat again. */
  redraw() {
    this.#draw();
  }

  /** Leaves the shown chat if another tab has forgotten it, and returns whether it did. */
  leaveForgotten() {
    if (!this.#chat || !this.#list.isForgotten(this.#chat.token)) return false;
    this.forget('That chat was forgotten in another tab. Start a new one any time.');
    return true;
  }

  #leave() {
    if (!this.#chat) return;
    this.#unsent.savePlace(this.#chat.token, this.#view.place);
    this.#unsent.leave(this.#chat, this.#composer.text);
    if (this.#chat.connection === 'expired') this.#composer.forget(this.#chat.token);
    this.#chat.close();
  }

  #listener(own) {
    return {
      state: () => {
        if (this.#drawScheduled || own() !== this.#chat) return;
        this.#drawScheduled = true;
        requestAnimationFrame(() => this.#draw());
      },
      renewed: (seconds) => this.#list.renew(seconds),
      notice,
      changed: (turn) => this.#view.touch(turn),
      ordered: () => {
        if (own() !== this.#chat) return;
        this.#view.arrange(own().conversation);
        this.#unsent.save(this.#chat, this.#composer.text);
      },
      finished: (turn) => {
        this.#list.renew();
        announce(`Assistant: ${plainText(turn.reply.text.slice(0, ANNOUNCED)) || 'the reply has no text'}`);
      },
      failed: (turn) => announce(turn.stored ? 'The reply failed.' : 'A message was not sent.'),
    };
  }

  #draw() {
    this.#drawScheduled = false;
    const chat = this.#chat;
    if (!chat) return;
    this.#status.draw(chat);
    const expired = chat.connection === 'expired';
    const empty = chat.conversation.order.length === 0;
    if (expired && !chat.damaged) this.#list.remove(chat.token);
    if (expired && empty) {
      this.#parent.left(`That chat ${chat.damaged ? 'cannot be read' : 'has expired'}. Start a new one any time.`);
      return;
    }
    if (chat.name) {
      this.#parent.named(chat.name);
      page.hello.textContent = `Hello, ${chat.name}`;
    }
    this.#drawTitle();
    page.ended.hidden = !expired;
    page.endedReason.textContent = chat.damaged ? 'can no longer be loaded' : 'has expired';
    this.#composer.enabled = !expired;
    page.draft.placeholder = expired ? 'What you write begins a new chat' : 'Write a message';
    page.empty.hidden = !empty || chat.connection !== 'online';
    page.exportChoices.hidden = empty;
    if (!empty) for (const load of [loadExport, loadClipboard]) load();
    this.#drawEarlier(chat.hasEarlier && !expired);
    page.forget.hidden = expired;
    this.#drawSendAll(!expired);
    this.#drawStop(chat.conversation.waiting.length > 0 && !expired);
  }

  #drawSendAll(canSend) {
    const refused = this.#refused.length;
    page.sendAll.hidden = refused < 2 || !canSend;
    page.sendAll.textContent = `Send all ${refused} again`;
    // Others can be sent later.
    const waits = this.#chat.conversation.order.map(({ error }) => (error?.until ?? 0) - Date.now());
    const next = Math.min(...waits.filter((wait) => wait > 0));
    clearTimeout(this.#sendableTimer);
    if (next < Infinity) this.#sendableTimer = setTimeout(() => this.#draw(), next + 10);
  }

  #drawTitle() {
    const first = this.#chat.conversation.order.find((turn) => turn.text !== null);
    const title = first ? this.#list.title(first.text, !this.#chat.hasEarlier) : '';
    page.title.textContent = title || UNTITLED;
    document.title = title ? `${title} · Chat` : 'Chat';
    this.#list.draw();
  }

  #drawEarlier(exists) {
    if (!exists && page.earlier === document.activeElement) page.scroller.focus({ preventScroll: true });
    page.earlier.hidden = !exists;
    page.earlier.ariaDisabled = this.#chat.loadingEarlier;
    page.earlier.textContent = this.#chat.loadingEarlier ? 'Loading…' : 'Earlier messages';
  }

  #drawStop(waiting) {
    if (!waiting && page.stop.matches(':focus-visible')) this.#composer.focus();
    page.stop.hidden = !waiting;
    page.stop.disabled = this.#chat.stopping || this.#chat.connection !== 'online';
  }
}
