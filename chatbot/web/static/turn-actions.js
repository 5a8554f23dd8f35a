/** What the buttons of a turn do: copies, edits and other versions, ratings, and what follows a failure. */

import { newId } from './client/api.js';
import { loadClipboard } from './later.js';
import { notice, page } from './page.js';

const NOT_CONNECTED = 'That needs a connection to the server. Try again when there is one.';

export class TurnActions {
  #composer;
  #shown;
  #edited = null; // id of the message that is being edited
  #draft = ''; // what stood in the composer before

  /** `shown()` returns the Chat that the page shows. */
  constructor(composer, shown) {
    this.#composer = composer;
    this.#shown = shown;
    page.cancelEdit.addEventListener('click', () => this.cancel());
    composer.onUp = () => {
      const last = shown().conversation.path.findLast(({ stored }) => stored);
      if (last && shown().connection === 'online') this.#edit(last);
    };
  }

  /** Does what `button`, with this action, of the turn with this id stands for. */
  act(action, id, button) {
    const chat = this.#shown();
    const turn = chat.conversation.get(id);
    const actions = {
      copy: () => this.#copy(turn.reply.text, button),
      copyCode: () => this.#copy(button.closest('.code').querySelector('code').textContent, button),
      editSaid: () => this.#edit(turn),
      other: () => this.#showOther(button.dataset.other, button.closest('.said') !== null),
      regenerate: () => this.#sendOnce({ type: 'regenerate', of: turn.of, id: newId() }),
      rate: () => this.#rate(turn.reply, button.dataset.rating),
      tellWhy: () => this.#tellWhy(turn.reply, button.closest('.opinion').querySelector('input').value.trim()),
      retry: () => this.#answerFailure(turn, () => chat.retry(turn)),
      sendAgain: () => this.#answerFailure(turn, () => chat.sendAgain(turn)),
      edit: () => this.#answerFailure(turn, () => this.#putBack(turn)),
    };
    actions[action]();
  }

  async #copy(text, button) {
    const part = await loadClipboard();
    if (part) part.copy(text, button);
    else notice(NOT_CONNECTED);
  }

  /** The id of the message that the next one replaces, or null; it is then no longer edited. */
  takeEdited() {
    const edited = this.#edited;
    this.#end();
    return edited;
  }

  /** Leaves the edit; returns whether there was one. */
  cancel() {
    const was = this.#edited !== null;
    this.#end();
    return was;
  }

  #edit(turn) {
    if (this.#edited === null) this.#draft = this.#composer.text;
    this.#edited = turn.of;
    page.editing.hidden = false;
    this.#composer.replace(turn.text);
  }

  #end() {
    if (this.#edited === null) return;
    this.#edited = null;
    page.editing.hidden = true;
    this.#composer.replace(this.#draft);
  }

  /** Returns whether the frame was sent; without a connection the user is asked to try again. */
  #sendOnce(frame) {
    const sent = this.#shown().sendOnce(frame);
    if (!sent) notice(NOT_CONNECTED);
    return sent;
  }

  /** The same rating again withdraws it. */
  #rate(reply, chosen) {
    const rating = reply.rating === chosen ? null : chosen;
    if (this.#sendOnce({ type: 'feedback', id: reply.id, rating })) reply.asksWhy = rating !== null;
  }

  /** Adds a reason to the rating. Without a connection its field stays, with the text. */
  #tellWhy(reply, text) {
    const sent = this.#sendOnce({ type: 'feedback', id: reply.id, rating: reply.rating, ...(text ? { text } : {}) });
    if (!sent) return;
    reply.asksWhy = false;
    if (text) notice('Thank you for your feedback.');
  }

  #answerFailure(turn, answer) {
    if (turn?.state !== 'failed') return; // meanwhile it is being answered
    this.#composer.focusIfHandy();
    answer();
  }

  /** Puts a message that was not sent back into the composer. */
  #putBack(turn) {
    this.#shown().conversation.remove(turn);
    this.#composer.putBack(turn.text);
  }

  /** Shows another message, or another reply to the same one. A request without a reply can be shown here only. */
  #showOther(id, isMessage) {
    const { conversation } = this.#shown();
    const turn = conversation.get(id);
    if (!turn) return;
    if (!isMessage && !turn.reply?.complete) conversation.show(id);
    else this.#sendOnce({ type: 'select', id: isMessage ? turn.of : turn.reply.id });
  }
}
