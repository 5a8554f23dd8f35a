/** One open chat: connects a Conversation with its Socket and the session's history. No DOM. */

import { Conversation } from './conversation.js';
import { History } from './history.js';
import { ApiError, checkSession, newId, socketUrl } from './session.js';
import { backoff, Socket } from './socket.js';

// Milliseconds for an ack to arrive, and for a reply that is neither pending nor in the history.
const ACK_LIMIT = 10_000;
const SILENCE_LIMIT = 1_500;
const ACK_CHECK_INTERVAL = 2_000;
const FRAME_LIMIT = 64 * 1024; // bytes
const UNREACHABLE_AFTER = 5; // attempts
const RESENDS = 5;
const CONVERSATION_FRAMES = new Set(['ack', 'status', 'reasoning', 'delta', 'message', 'selected', 'feedback']);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Chat {
  #listener;
  #socket;
  #fresh;
  #history;
  #isClosed = false;
  #ackCheck = 0;
  #syncing = null;
  #syncAgain = false;
  #connections = 0;
  #synced = false; // messages are sent once the page knows what the server has stored

  /**
   * `listener` has state(), renewed(seconds), notice(text) and the methods of a Conversation's listener. `renewed` gets
   * the session's time to live; `name` and `begun` are set before it is called. A `fresh` session has no history yet.
   */
  constructor(token, listener, { fresh = false } = {}) {
    this.token = token;
    this.name = '';
    this.begun = null;
    this.#listener = listener;
    this.#fresh = fresh;
    this.connection = 'connecting'; // online, reconnecting, unreachable, expired
    this.damaged = false; // why the chat is over, if it has not expired
    this.stopping = false;
    this.loadingEarlier = false;
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
    this.#history = new History(token, this.conversation, fresh);
    this.#socket = new Socket({
      url: () => socketUrl(token, this.conversation.cursor),
      frame: (frame) => this.#receive(frame),
      state: (name, failures) => this.#connectionIs(failures >= UNREACHABLE_AFTER ? 'unreachable' : name),
      closed: (code, failures) => this.#closed(code, failures),
      refused: (reason) => this.#refused(reason),
    });
  }

  /** Loads the history, then opens the connection. */
  async open() {
    if (!this.#fresh) await this.#sync();
    if (this.#isClosed) return;
    this.#ackCheck = setInterval(() => this.#checkAcks(), ACK_CHECK_INTERVAL);
    this.#socket.open();
  }

  close() {
    this.#isClosed = true;
    this.#history.close();
    clearInterval(this.#ackCheck);
    this.#socket.close();
  }

  /** Sends a message; with `edits` in the place of the message with that id. */
  send(text, edits = null) {
    this.#transmit(this.conversation.add(newId(), text, new Date().toISOString(), edits));
  }

  /** Sends a frame that is not repeated; returns whether it was sent. */
  sendOnce(frame) {
    return this.#socket.send(frame);
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

  /** The server has messages that are older than those of the conversation. */
  get hasEarlier() {
    return this.#history.hasEarlier;
  }

  /** Adds a page of older messages to the conversation. */
  async loadEarlier() {
    if (!this.hasEarlier || this.loadingEarlier || this.#isClosed) return;
    this.loadingEarlier = true;
    this.#listener.state();
    try {
      await this.#history.loadEarlier();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.expired || error.damaged) this.#end(error);
      else this.#listener.notice(`The earlier messages could not be loaded. ${error.message}`);
      await pause((error.retryAfter ?? 1) * 1000);
    }
    this.loadingEarlier = false;
    this.#listener.state();
  }

  /** Reconnects without delay: the network may have changed, or the user has come back to the page. */
  wake(networkChanged = false) {
    if (networkChanged && this.#socket.ready) this.#socket.restart();
    else this.#socket.nudge();
  }

  #transmit(turn) {
    if (new TextEncoder().encode(JSON.stringify(turn.frame)).length > FRAME_LIMIT) {
      this.conversation.fail(turn, { code: 'message_too_long' });
    } else if (this.#synced && this.#socket.send(turn.frame)) {
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
      case 'request':
        this.conversation.regenerate(frame.id, frame.reply_to);
        break;
      default:
        if (frame.type === 'ack' && frame.reply_to) this.conversation.regenerate(frame.id, frame.reply_to);
        if (frame.type === 'message' && frame.source === 'human') this.conversation.show(frame.id);
        if (CONVERSATION_FRAMES.has(frame.type) && !this.conversation.apply(frame)) this.#sync();
    }
  }

  async #begin({ name, session_start: begun, expires_in: left, pending = [], recovered, leaf, requests }) {
    this.#connections += 1;
    this.#synced = false;
    const connection = this.#connections;
    this.#knownAs(name, begun);
    this.#listener.renewed(left);
    this.stopping = false;
    const known = this.conversation.begin(pending, requests);
    if (leaf) this.conversation.show(leaf);
    if (recovered === false) this.#history.noteGap();
    const gap = recovered === false || (recovered !== true && !this.#fresh) || !known;
    this.#fresh = false;

    const current = () => connection === this.#connections && this.#socket.ready && !this.#isClosed;
    if (gap) await this.#sync(); // the server may have stored the unsent messages
    if (!current()) return;
    this.#synced = true;
    for (const turn of this.conversation.unsent) this.#transmit(turn);
    for (const turn of this.conversation.waiting) {
      if (turn.retrying) this.retry(turn);
    }

    // A message that is neither answered nor pending has failed, unless its reply is just arriving.
    if (!gap) await pause(SILENCE_LIMIT);
    const lost = () => this.conversation.unmentioned.filter((turn) => !pending.includes(turn.id));
    if (!gap && current() && lost().length) await this.#sync();
    if (!current()) return;
    for (const turn of lost()) this.conversation.fail(turn, { code: 'model_error' });
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

  /** The server was unavailable for a message: sends it again by itself, after a delay. */
  #sendLater(turn, seconds) {
    turn.sentAt = 0;
    turn.refusals += 1;
    const wait = Math.max(backoff(turn.refusals), seconds * 1000);
    setTimeout(() => {
      if (turn.state === 'sending' && !turn.sentAt && !this.#isClosed) this.#transmit(turn);
    }, wait);
  }

  #knownAs(name, begun) {
    this.name = name;
    this.begun = begun;
    this.#listener.state();
  }

  /** Merges the newest page of the history, again until it contains every message that frames were about. */
  #sync() {
    this.#syncAgain = true;
    this.#syncing ??= this.#syncUntilKnown();
    return this.#syncing;
  }

  async #syncUntilKnown() {
    for (let attempt = 0; this.#syncAgain && !this.#isClosed; ) {
      this.#syncAgain = false;
      try {
        const loaded = await this.#history.loadNewest();
        if (!loaded) return;
        this.#knownAs(loaded.session.name, loaded.session.session_start);
        if (loaded.session.leaf) this.conversation.show(loaded.session.leaf);
        if (!loaded.complete) this.#syncAgain = true;
        attempt = 0;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (this.#isClosed) return;
        if (error.expired || error.damaged) {
          this.#end(error);
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
    // Some proxies drop the close code, so after some failures the session is checked over HTTP.
    if (failures % 4 === 3) {
      checkSession(this.token).catch((error) => {
        if (error.expired || error.damaged) this.#end(error);
      });
    }
    if (code !== 1009) return;
    for (const turn of this.conversation.unsent) this.conversation.fail(turn, { code: 'message_too_long' });
  }

  /** Close code 1008: the session has ended or is damaged, or pings went unanswered while this computer slept. */
  async #refused(reason) {
    const damaged = /no longer be read/.test(reason);
    if (!/session|token/i.test(reason)) {
      this.#connectionIs('reconnecting');
      try {
        await checkSession(this.token);
        return true;
      } catch (error) {
        if (!error.expired) return true;
      }
    }
    this.#end({ damaged });
    return false;
  }

  #end({ damaged = false }) {
    if (this.#isClosed) return;
    this.damaged = damaged;
    this.close();
    for (const turn of this.conversation.order) this.conversation.fail(turn, { code: 'expired' });
    this.#connectionIs('expired');
  }

  /** A connection on which no ack arrives is dead. */
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
