/** The turns of one chat in the order of the server's log, and the path through them that is shown. No DOM, no network. */

import { afterStored, skipped } from './log-order.js';
import { Paths } from './paths.js';
import { Turn } from './turn.js';

export class TurnList {
  #paths = null; // of the current order
  #leaf = null; // id of the end of the path that is shown

  /** `listener` may have changed(turn), ordered(), finished(turn) and failed(turn). */
  constructor(listener = {}) {
    this.listener = listener;
    this.turns = new Map(); // by the ids of their requests
    this.order = [];
  }

  get(id) {
    return this.turns.get(id);
  }

  get paths() {
    this.#paths ??= new Paths(this.order);
    return this.#paths;
  }

  /** The turns that are shown. */
  get path() {
    return this.paths.to(this.#leaf);
  }

  /** Shows the path to the message or request `leaf`. */
  show(leaf) {
    this.#leaf = leaf;
    this.reordered();
  }

  /** Shows the path whose end the server names. A human message there stands for its newest request without a reply. */
  showEnd(id) {
    const request = this.order.findLast((turn) => turn.of === id && !turn.reply?.complete);
    this.show(request?.id ?? id);
  }

  /** A request for another reply to the human message `of`. */
  regenerate(id, of) {
    const first = this.turns.get(of);
    if (!first || this.turns.has(id)) return;
    const { text, timestamp, parent } = first;
    this.insert(new Turn(id, text, { stored: true, timestamp, of, parent }), afterStored(this.order));
    this.show(id);
  }

  /** Turns whose message has no ack, in the order of writing. */
  get unsent() {
    return this.order.filter((turn) => turn.state === 'sending');
  }

  /** Turns that wait for their reply. */
  get waiting() {
    return this.order.filter((turn) => turn.state === 'waiting');
  }

  add(id, text, timestamp = null, edits = null) {
    const turn = new Turn(id, text, { timestamp, edits });
    this.insert(turn, this.order.length);
    return turn;
  }

  /** Adds the messages that `unstored` returned before a refresh. */
  restore(unstored) {
    for (const { id, text, timestamp, error, edits } of unstored) {
      const turn = this.add(id, text, timestamp, edits);
      if (error) this.fail(turn, error);
    }
  }

  /** Messages that the server has not stored: [{id, text, timestamp, error}]. */
  get unstored() {
    return this.order
      .filter((turn) => !turn.stored)
      .map(({ id, text, timestamp, error, edits }) => ({ id, text, timestamp, error, edits }));
  }

  remove(turn) {
    this.turns.delete(turn.id);
    this.order = this.order.filter((other) => other !== turn);
    this.reordered();
  }

  sendAgain(turn) {
    turn.sendAgain();
    this.move(turn, this.order.length);
    this.changed(turn);
  }

  retry(turn) {
    turn.retry();
    this.changed(turn);
  }

  fail(turn, error) {
    if (turn.state === 'done') return;
    turn.fail(error);
    this.changed(turn);
  }

  setOrder(order) {
    if (order.length !== this.order.length || order.some((turn, index) => turn !== this.order[index])) {
      this.order = order;
    }
    this.reordered();
    for (const turn of skipped(order)) this.fail(turn, { code: 'model_error' });
  }

  insert(turn, index) {
    this.turns.set(turn.id, turn);
    this.order.splice(index, 0, turn);
    this.reordered();
    this.changed(turn);
  }

  move(turn, index) {
    const from = this.order.indexOf(turn);
    const to = Math.min(index, this.order.length - 1);
    if (to <= from) return;
    this.order.splice(from, 1);
    this.order.splice(to, 0, turn);
    this.reordered();
  }

  reordered() {
    this.#paths = null;
    this.listener.ordered?.();
  }

  changed(turn) {
    this.listener.changed?.(turn);
  }
}
