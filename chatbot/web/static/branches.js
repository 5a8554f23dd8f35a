/** What makes and shows branches of a conversation: edits, regenerations, other paths; and ratings of replies. */

import { newId } from './client/api.js';
import { notice, page } from './page.js';

const NOT_CONNECTED = 'That needs a connection to the server. Try again when there is one.';

const feedback = ({ id }, rating, text) => ({
  type: 'feedback',
  id,
  rating,
  ...(text?.trim() ? { text: text.trim() } : {}),
});

export class Branches {
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

  /** Does what a button of a turn stands for; returns whether it is one of these. */
  act(action, turn, button) {
    const frames = {
      regenerate: () => ({ type: 'regenerate', of: turn.of, id: newId() }),
      rate: () => feedback(turn.reply, turn.reply.rating === button.dataset.rating ? null : button.dataset.rating),
      tellWhy: () => feedback(turn.reply, turn.reply.rating, button.closest('.opinion').querySelector('input').value),
    };
    if (action === 'editSaid') this.#edit(turn);
    else if (action === 'other') this.#showOther(button.dataset.other, button.closest('.said') !== null);
    else if (!frames[action]) return false;
    else if (!this.#send(action, frames[action](), turn.reply)) notice(NOT_CONNECTED);
    return true;
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

  /** Returns whether the frame was sent. A text is not lost with the connection: its field stays until it is sent. */
  #send(action, frame, reply) {
    if (!this.#shown().sendOnce(frame)) return false;
    if (reply) reply.asksWhy = action === 'rate' && frame.rating !== null;
    if (frame.text) notice('Thank you for your feedback.');
    return true;
  }

  /** Shows another message, or another reply to the same one. A request without a reply can be shown here only. */
  #showOther(id, isMessage) {
    const { conversation } = this.#shown();
    const turn = conversation.get(id);
    if (!turn) return;
    if (!isMessage && !turn.reply?.complete) conversation.show(id);
    else if (!this.#shown().sendOnce({ type: 'select', id: isMessage ? turn.of : turn.reply.id }))
      notice(NOT_CONNECTED);
  }
}
