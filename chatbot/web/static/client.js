/** A client of a chat session, for this page and others: docs/client.md. */

import { checkSession, newId } from './client/api.js';
import { Connection } from './client/connection.js';
import { Outgoing } from './client/outgoing.js';
import { Reply } from './client/reply.js';

export { ApiError, backoff, createSession, endSession, loadMessages, loadPage, newId } from './client/api.js';
export { Reply } from './client/reply.js';

const ACK_LIMIT = 10_000; // milliseconds for an ack to arrive
const CHECK_INTERVAL = 1_000;
const FRAME_LIMIT = 64 * 1024; // bytes
const TOO_LONG = 'A message has at most 64 KB';
const UNREACHABLE_AFTER = 5; // attempts

/** Its events and options are in docs/client.md. */
export class ChatClient extends EventTarget {
  #connection;
  #outgoing = new Outgoing((frame) => this.#connection.send(frame));
  #prepare;
  #cursor;
  #after; // id of the last complete message that was received
  #replies = null; // of those in progress, by id; null while no listener needs them
  #ready = false; // what is unsent is sent as it comes
  #sessions = 0; // frames `session` that were received
  #check = 0;

  constructor(token, { after = null, cursor = () => this.#after, prepare = () => {} } = {}) {
    super();
    this.token = token;
    this.state = 'connecting';
    this.#after = after;
    this.#cursor = cursor;
    this.#prepare = prepare;
    this.#connection = new Connection(token, {
      cursor: () => this.#cursor(),
      frame: (frame) => this.#receive(frame),
      state: (name, failures) => this.#stateIs(failures >= UNREACHABLE_AFTER ? 'unreachable' : name),
      closed: (code, failures) => this.#closed(code, failures),
      refused: (reason) => this.#refused(reason),
    });
  }

  addEventListener(type, ...rest) {
    if (type === 'reply') this.#replies ??= new Map();
    super.addEventListener(type, ...rest);
  }

  /** How the client is connected: websocket, events or polling; null if it is not. */
  get transport() {
    return this.#connection.transport;
  }

  get online() {
    return this.#connection.ready;
  }

  /** Ids of what is not acknowledged. */
  get unsent() {
    return this.#outgoing.ids;
  }

  open() {
    this.#check = setInterval(() => this.#checkAcks(), CHECK_INTERVAL);
    this.#connection.open();
  }

  close() {
    clearInterval(this.#check);
    this.#ready = false;
    this.#connection.close();
  }

  /** Sends a message, again if need be, and returns its id. `more` are fields such as `parent` and `on_busy`. */
  send(text, more = {}) {
    return this.deliver({ type: 'message', msg: text, id: newId(), ...more });
  }

  /** Sends a frame that asks for a reply, and has an `id`, again until it is acknowledged or refused; returns the id. */
  deliver(frame) {
    if (new TextEncoder().encode(JSON.stringify(frame)).length > FRAME_LIMIT) {
      this.#receive({ type: 'error', code: 'message_too_long', message: TOO_LONG, id: frame.id });
      return frame.id;
    }
    this.#outgoing.add(frame);
    if (this.#ready) this.#outgoing.flush();
    return frame.id;
  }

  /** Does not send what is not acknowledged again. */
  drop(id) {
    this.#outgoing.drop(id);
  }

  /** Sends any frame, if there is a connection, and returns whether it was sent. */
  sendOnce(frame) {
    return this.online && this.#connection.send(frame);
  }

  /** Reconnects without delay: the network may have changed, or the user has come back. */
  wake(networkChanged = false) {
    if (networkChanged && this.online) this.#connection.restart({ anew: true });
    else this.#connection.nudge();
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #receive(frame) {
    if (frame.type === 'session') this.#begin(frame);
    const seen = this.#outgoing.receive(frame);
    if (seen === null) return;
    if (seen.type === 'message') this.#after = seen.id;
    // Until then the history was empty.
    else if (seen.type === 'ack') this.#after ??= seen.id;
    this.#emit('frame', seen);
    if (this.#replies && seen.reply_to) this.#assemble(seen);
  }

  #assemble(frame) {
    const { type, id, offset, msg } = frame;
    if (!['delta', 'reasoning', 'message'].includes(type)) return;
    const reply = this.#replies.get(id) ?? new Reply(id, frame);
    this.#replies.set(id, reply);
    if (type === 'delta') reply.write(offset, msg);
    else if (type === 'reasoning') reply.think(offset, msg);
    else reply.finish(frame);
    if (reply.complete) this.#replies.delete(id);
    this.#emit('reply', reply);
  }

  async #begin(session) {
    this.#ready = false;
    this.#outgoing.renew();
    this.#sessions += 1;
    const connection = this.#sessions;
    await this.#prepare(session);
    if (connection !== this.#sessions || !this.online) return;
    this.#ready = true;
    this.#outgoing.flush();
    this.#emit('ready', session);
  }

  /** A connection on which no ack arrives is dead. */
  #checkAcks() {
    if (!this.#ready) return;
    this.#outgoing.flush();
    if (this.#outgoing.isOverdue(ACK_LIMIT)) this.#connection.restart();
  }

  #closed(code, failures) {
    this.#ready = false;
    // Some proxies drop the close code, so after some failures the session is checked over HTTP.
    if (failures % 4 === 3) this.#exists();
    if (code !== 1009) return;
    for (const id of this.unsent) {
      this.#receive({ type: 'error', code: 'message_too_long', message: TOO_LONG, id });
    }
  }

  /** Close code 1008: the session has ended or is damaged, or pings went unanswered while this computer slept. */
  async #refused(reason) {
    if (!/session|token/i.test(reason)) {
      this.#stateIs('reconnecting');
      return this.#exists();
    }
    this.#end(/no longer be read/.test(reason));
    return false;
  }

  /** Returns whether the session may still exist; ends the client if it does not. */
  async #exists() {
    try {
      await checkSession(this.token);
    } catch (error) {
      if (!error.expired && !error.damaged) return true;
      this.#end(error.damaged);
      return false;
    }
    return true;
  }

  #end(damaged) {
    if (this.state === 'ended') return;
    this.close();
    this.#stateIs('ended');
    this.#emit('ended', { damaged });
  }

  #stateIs(name) {
    if (this.state === 'ended') return;
    this.state = name;
    this.#emit('state', name);
  }
}
