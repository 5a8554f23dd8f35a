/**
 * Paths through the tree of a conversation. A turn is one request for a reply: a human message, or a regeneration, which
 * repeats its message. Pure functions and data.
 */

export class Paths {
  #order;
  #owners = new Map(); // id of a request or a reply → its turn
  #index = new Map(); // turn → its place in the order
  #ofParent = new Map(); // what human messages follow → the turns of these messages, one for each
  #ofHuman = new Map(); // id of a human message → its turns, one for each request

  /** `order` are the turns in the order of the log. */
  constructor(order) {
    this.#order = order;
    order.forEach((turn, index) => {
      this.#index.set(turn, index);
      this.#owners.set(turn.id, turn);
      if (turn.reply) this.#owners.set(turn.reply.id, turn);
    });
    for (const turn of order) {
      if (!turn.stored || turn.text === null) continue;
      add(this.#ofHuman, turn.of, turn);
      if (this.#ofHuman.get(turn.of).length === 1) add(this.#ofParent, this.#keyOf(turn), turn);
    }
  }

  /** The turn of a request or a reply. */
  turnOf(id) {
    return this.#owners.get(id);
  }

  /** The turns that end with `leaf`, from the beginning; messages that are not stored yet stand where they were written. */
  to(leaf) {
    const path = [];
    let turn = this.#owners.get(leaf);
    if (!turn?.stored) turn = this.#order.findLast(({ stored }) => stored);
    for (const seen = new Set(); turn && !seen.has(turn); turn = this.#before(turn)) {
      seen.add(turn);
      path.unshift(turn);
    }
    this.#order.forEach((unsent, index) => {
      if (unsent.stored) return;
      const after = path.findLastIndex((shown) => this.#index.get(shown) < index);
      path.splice(after + 1, 0, unsent);
    });
    return path;
  }

  /** The messages that may stand in the place of a turn's, as turns. */
  messagesBeside(turn) {
    return this.#ofParent.get(this.#keyOf(turn)) ?? [turn];
  }

  /** The requests for a reply to the message of a turn, as turns. */
  repliesBeside(turn) {
    return this.#ofHuman.get(turn.of) ?? [turn];
  }

  #before(turn) {
    if (turn.parent === null) return undefined;
    if (turn.parent === undefined) return this.#order[this.#index.get(turn) - 1];
    return this.#owners.get(turn.parent);
  }

  /** What a turn's message follows; the turn itself while that is not known. */
  #keyOf(turn) {
    if (turn.parent === undefined) return turn.of;
    return this.#owners.get(turn.parent) ?? turn.parent;
  }
}

function add(map, key, value) {
  if (map.has(key)) map.get(key).push(value);
  else map.set(key, [value]);
}
