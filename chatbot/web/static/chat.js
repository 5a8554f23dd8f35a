/** One running chat: keeps a conversation and its connection together. No DOM. */

import { Conversation } from './conversation.js';
import { ApiError, loadSession, socketUrl } from './session.js';
import { Socket, backoff } from './socket.js';

const ACK_LIMIT = 10_000;
const SILENCE_LIMIT = 1_500;
const FRAME_LIMIT = 64 * 1024;
const UNREACHABLE_AFTER = 5; // attempts
const RESENDS = 5;
const TOLD = new Set(['ack', 'status', 'delta', 'message']);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Chat {
  #listener;
  #socket;
  #fresh;
  #over = false;
  #watch = 0;
  #syncing = null;
  #syncAgain = false;
  #connections = 0;
  #settled = false; // nothing is sent before what is held here and there is clear

  /**
   * `listener` has state(), lives(seconds), notice(text) and what Conversation tells. `lives` is told how much longer
   * the session lives, `name` and `begun` are known from then on. A `fresh` session was
   * made a moment ago, so its history need not be asked for.
   */
  constructor(token, listener, { fresh = false } = {}) {
    this.token = token;
    this.name = '';
    this.begun = null;
    this.#listener = listener;
    this.#fresh = fresh;
    this.connection = 'connecting'; // online, reconnecting, unreachable, expired
    this.stopping = false;
    this.conversation = new Conversation({
      ...listener,
      changed: (turn) => {
        listener.changed(turn);
        listener.state();
      },
      finished: (turn) => {
        this.stopping = false;
        listener.finished(turn);
      },
    });
    this.#socket = new Socket({
      url: () => socketUrl(token, this.conversation.cursor),
      frame: (frame) => this.#receive(frame),
      state: (name, failures) => this.#connectionIs(failures >= UNREACHABLE_AFTER ? 'unreachable' : name),
      closed: (code, failures) => this.#closed(code, failures),
      refused: (reason) => this.#refused(reason),
    });
  }

  /** The history first, then the live connection. */
  async open() {
    if (!this.#fresh) await this.#sync();
    if (this.#over) return;
    this.#watch = setInterval(() => this.#checkAcks(), 2_000);
    this.#socket.open();
  }

  close() {
    this.#over = true;
    clearInterval(this.#watch);
    this.#socket.close();
  }

  send(id, text) {
    this.#transmit(this.conversation.add(id, text, new Date().toISOString()));
  }

  /** What this tab had not got rid of when it was left: [{id, text, timestamp, error}]. */
  restore(unstored) {
    for (const { id, text, timestamp, error } of unstored) {
      const turn = this.conversation.add(id, text, timestamp);
      if (error) this.conversation.fail(turn, error);
    }
  }

  get unstored() {
    return this.conversation.order
      .filter((turn) => !turn.stored)
      .map(({ id, text, timestamp, error }) => ({ id, text, timestamp, error }));
  }

  sendAgain(turn) {
    this.conversation.sendAgain(turn);
    this.#transmit(turn);
  }

  retry(turn) {
    this.conversation.retry(turn);
    this.#socket.send({ type: 'retry', id: turn.id });
  }

  stop() {
    this.stopping = this.#socket.send({ type: 'stop' });
    this.#listener.state();
  }

  /** The network is said to be back, or the person is. */
  wake(networkChanged = false) {
    if (networkChanged && this.#socket.ready) this.#socket.restart();
    else this.#socket.nudge();
  }

  #transmit(turn) {
    const frame = { type: 'message', msg: turn.text, id: turn.id };
    if (new TextEncoder().encode(JSON.stringify(frame)).length > FRAME_LIMIT) {
      this.conversation.fail(turn, { code: 'message_too_long' });
    } else if (this.#settled && this.#socket.send(frame)) {
      turn.sentAt = Date.now();
    }
  }

  #receive(frame) {
    switch (frame.type) {
      case 'session':
        this.#begin(frame);
        break;
      case 'error':
        this.#error(frame);
        break;
      default:
        if (TOLD.has(frame.type) && !this.conversation.apply(frame)) this.#sync();
    }
  }

  async #begin({ name, session_start: begun, expires_in: left, pending = [], recovered }) {
    this.#connections += 1;
    this.#settled = false;
    const connection = this.#connections;
    this.#knownAs(name, begun);
    this.#listener.lives(left);
    this.stopping = false;
    const known = this.conversation.begin(pending);
    const gap = recovered === false || (recovered !== true && !this.#fresh) || !known;
    this.#fresh = false;

    const current = () => connection === this.#connections && this.#socket.ready && !this.#over;
    if (gap) await this.#sync(); // it may hold what would be sent again
    if (!current()) return;
    this.#settled = true;
    for (const turn of this.conversation.unsent) this.#transmit(turn);
    for (const turn of this.conversation.waiting) {
      if (turn.retrying) this.retry(turn);
    }

    // What is neither answered nor pending has failed, unless its reply is just arriving.
    if (!gap) await pause(SILENCE_LIMIT);
    const silent = () => this.conversation.silent.filter((turn) => !pending.includes(turn.id));
    if (!gap && current() && silent().length) await this.#sync();
    if (!current()) return;
    for (const turn of silent()) this.conversation.fail(turn, { code: 'model_error' });
  }

  #error(frame) {
    const turn = frame.id ? this.conversation.get(frame.id) : null;
    this.stopping = false;
    if (frame.code === 'unavailable' && turn?.state === 'sending' && turn.refusals < RESENDS) {
      this.#sendLater(turn, frame.retry_after ?? 0);
    } else if (turn || (frame.id && frame.code === 'model_error')) {
      const known = this.conversation.apply(frame);
      if (!known || frame.code === 'not_retryable') this.#sync();
    } else {
      this.#listener.notice(frame.message || 'Something went wrong.');
    }
    this.#listener.state();
  }

  /** The server could not take a message, which should pass: the person need not do anything about it. */
  #sendLater(turn, seconds) {
    turn.sentAt = 0;
    turn.refusals += 1;
    const wait = Math.max(backoff(turn.refusals), seconds * 1000);
    setTimeout(() => {
      if (turn.state === 'sending' && !turn.sentAt && !this.#over) this.#transmit(turn);
    }, wait);
  }

  #knownAs(name, begun) {
    this.name = name;
    this.begun = begun;
    this.#listener.state();
  }

  /** Merges the whole history, as often as it takes to know every message that was spoken of. */
  #sync() {
    this.#syncAgain = true;
    this.#syncing ??= this.#syncUntilKnown();
    return this.#syncing;
  }

  async #syncUntilKnown() {
    for (let attempt = 0; this.#syncAgain && !this.#over; ) {
      this.#syncAgain = false;
      const { parked } = this.conversation;
      try {
        const session = await loadSession(this.token);
        if (this.#over) return;
        this.#knownAs(session.name, session.session_start);
        if (!this.conversation.merge(session.messages, parked)) this.#syncAgain = true;
        attempt = 0;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (this.#over) return;
        if (error.expired) {
          this.#expire();
          return;
        }
        this.#syncAgain = true;
        if (!this.#socket.ready) this.#connectionIs(attempt >= UNREACHABLE_AFTER ? 'unreachable' : 'reconnecting');
        await pause(Math.max(backoff(attempt), (error.retryAfter ?? 0) * 1000));
        attempt += 1;
      }
    }
    this.#syncing = null;
  }

  #closed(code, failures) {
    this.stopping = false;
    // Some proxies swallow the close code, so after some failures ask whether the session still lives.
    if (failures % 4 === 3) {
      loadSession(this.token).catch((error) => {
        if (error.expired) this.#expire();
      });
    }
    if (code !== 1009) return;
    for (const turn of this.conversation.unsent) this.conversation.fail(turn, { code: 'message_too_long' });
  }

  /** Close 1008 means the end of the session, or pings that this computer slept through. */
  async #refused(reason) {
    if (!/session|token/i.test(reason)) {
      this.#connectionIs('reconnecting');
      try {
        await loadSession(this.token);
        return true;
      } catch (error) {
        if (!error.expired) return true;
      }
    }
    this.#expire();
    return false;
  }

  #expire() {
    if (this.#over) return;
    this.close();
    for (const turn of this.conversation.order) this.conversation.fail(turn, { code: 'expired' });
    this.#connectionIs('expired');
  }

  /** A connection that takes messages and says nothing is dead. */
  #checkAcks() {
    const overdue = (turn) => turn.sentAt && Date.now() - turn.sentAt > ACK_LIMIT;
    if (this.#socket.ready && this.conversation.unsent.some(overdue)) this.#socket.restart();
  }

  #connectionIs(name) {
    if (this.connection === 'expired') return;
    this.connection = name;
    this.#listener.state();
  }
}
