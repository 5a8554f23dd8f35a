/** One open chat: connects a Conversation with the ChatClient of its session and the session's history. No DOM. */

import { pause } from './client/api.js';
import { ApiError, ChatClient, newId } from './client.js';
import { Conversation } from './conversation.js';
import { History, HistorySync } from './history.js';

const SILENCE_LIMIT = 1_500; // milliseconds for a reply that is neither pending nor in the history
const UNREACHABLE_AFTER = 5; // attempts
const CONVERSATION_FRAMES = new Set(['ack', 'status', 'reasoning', 'delta', 'message', 'selected', 'feedback']);

export class Chat {
  #listener;
  #client;
  #fresh;
  #history;
  #isClosed = false;
  #sync;
  #connections = 0;
  #gap = false; // the server may have stored what this connection does not mention

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
    this.#sync = new HistorySync(this.#history, {
      loaded: ({ name, session_start: begun, leaf }) => {
        this.#knownAs(name, begun);
        if (leaf) this.conversation.showEnd(leaf);
      },
      failed: (attempt) => {
        if (!this.#client.online) this.#connectionIs(attempt >= UNREACHABLE_AFTER ? 'unreachable' : 'reconnecting');
      },
      ended: (error) => this.#end(error),
    });
    this.#client = this.#connect();
  }

  #connect() {
    const client = new ChatClient(this.token, {
      cursor: () => this.conversation.cursor,
      // Messages are sent once the page knows what the server has stored.
      prepare: (session) => this.#begin(session),
    });
    client.addEventListener('frame', ({ detail }) => this.#receive(detail));
    client.addEventListener('state', ({ detail }) => this.#connectionIs(detail));
    client.addEventListener('ready', ({ detail }) => this.#findLost(detail));
    client.addEventListener('ended', ({ detail }) => this.#end(detail));
    return client;
  }

  /** Loads the history, then opens the connection. */
  async open() {
    if (!this.#fresh) await this.#sync.run();
    if (this.#isClosed) return;
    for (const turn of this.conversation.unsent) this.#transmit(turn);
    this.#client.open();
  }

  close() {
    this.#isClosed = true;
    this.#history.close();
    this.#sync.close();
    this.#client.close();
  }

  /** Sends a message; with `edits` in the place of the message with that id. */
  send(text, edits = null) {
    this.#transmit(this.conversation.add(newId(), text, new Date().toISOString(), edits));
  }

  /** Sends a frame that is not repeated; returns whether it was sent. */
  sendOnce(frame) {
    return this.#client.sendOnce(frame);
  }

  sendAgain(turn) {
    this.conversation.sendAgain(turn);
    this.#transmit(turn);
  }

  retry(turn) {
    this.conversation.retry(turn);
    this.#client.sendOnce({ type: 'retry', id: turn.id });
  }

  stop() {
    this.stopping = this.#client.sendOnce({ type: 'stop' });
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
    this.#client.wake(networkChanged);
  }

  #transmit(turn) {
    turn.sent = true;
    turn.held = this.#isHolding;
    this.#client.deliver(turn.frame);
  }

  #receive(frame) {
    switch (frame.type) {
      case 'error':
        this.#error(frame);
        break;
      case 'request':
        this.conversation.regenerate(frame.id, frame.reply_to);
        break;
      default:
        if (frame.type === 'ack' && frame.reply_to) this.conversation.regenerate(frame.id, frame.reply_to);
        if (frame.type === 'message' && frame.source === 'human') this.conversation.show(frame.id);
        if (CONVERSATION_FRAMES.has(frame.type) && !this.conversation.apply(frame)) this.#sync.run();
    }
  }

  /** A new connection: learns what the server has stored. */
  async #begin({ name, session_start: begun, expires_in: left, pending = [], recovered, leaf, requests }) {
    this.#connections += 1;
    this.#knownAs(name, begun);
    this.#listener.renewed(left);
    this.stopping = false;
    const known = this.conversation.begin(pending, requests);
    if (leaf) this.conversation.showEnd(leaf);
    if (recovered === false) this.#history.noteGap();
    this.#gap = recovered === false || (recovered !== true && !this.#fresh) || !known;
    this.#fresh = false;
    if (this.#gap) await this.#sync.run();
    const unsent = new Set(this.conversation.unsent.map(({ id }) => id));
    for (const id of this.#client.unsent) if (!unsent.has(id)) this.#client.drop(id);
  }

  /** A message that is neither answered nor pending has failed, unless its reply is just arriving. */
  async #findLost({ pending = [] }) {
    const connection = this.#connections;
    const gap = this.#gap;
    const current = () => connection === this.#connections && this.#client.online && !this.#isClosed;
    for (const turn of this.conversation.waiting) {
      if (turn.retrying) this.retry(turn);
    }
    if (!gap) await pause(SILENCE_LIMIT);
    const lost = () => this.conversation.unmentioned.filter((turn) => !pending.includes(turn.id));
    if (!gap && current() && lost().length) await this.#sync.run();
    if (!current()) return;
    for (const turn of lost()) this.conversation.fail(turn, { code: 'model_error' });
  }

  #error(frame) {
    const turn = frame.id ? this.conversation.get(frame.id) : null;
    this.stopping = false;
    if (turn || (frame.id && frame.code === 'model_error')) {
      const known = this.conversation.apply(frame);
      if (!known || frame.code === 'not_retryable') this.#sync.run();
    } else {
      this.#listener.notice(frame.message || 'Something went wrong.');
    }
    this.#listener.state();
  }

  #knownAs(name, begun) {
    this.name = name;
    this.begun = begun;
    this.#listener.state();
  }

  #end({ damaged = false }) {
    if (this.#isClosed) return;
    this.damaged = damaged;
    this.close();
    for (const turn of this.conversation.order) this.conversation.fail(turn, { code: 'expired' });
    this.#connectionIs('expired');
  }

  #connectionIs(name) {
    if (this.connection === 'expired' || name === 'ended') return;
    if (name !== 'online') this.stopping = false;
    this.connection = name;
    for (const turn of this.conversation.unsent) {
      turn.held = this.#isHolding;
      this.conversation.changed(turn);
    }
    this.#listener.state();
  }

  /** What is sent now waits until there is a connection again. */
  get #isHolding() {
    return ['reconnecting', 'unreachable'].includes(this.connection);
  }
}
