/** A connection that reconnects by itself, by websocket, server-sent events or polls, and passes frames on. */

import { tabStorage } from '../storage.js';
import { backoff } from './api.js';
import { ABNORMAL, POLICY, STALLED, TRY_LATER, WebSocketLink } from './websocket.js';

/** The best one first. Most clients need the first one only. */
const LINKS = {
  websocket: async () => WebSocketLink,
  events: async () => (await import('./events.js')).EventsLink,
  polling: async () => (await import('./polling.js')).PollingLink,
};
const TRANSPORTS = Object.keys(LINKS);
const WORKED = 'chat.transport'; // the key of the transport that worked last in this tab
// Milliseconds for the `session` frame to arrive.
const OPEN_LIMIT = { websocket: 8_000, events: 4_000, polling: 10_000 };
const STEADY_AFTER = 5_000;
// Milliseconds until a better transport is tried again: at first, and at most.
const FIRST_PROBE = 60_000;
const LAST_PROBE = 30 * 60_000;
const TRUSTED_FAILURES = 2; // attempts by websocket, where it has worked, before others are tried

export class Connection {
  #token;
  #handler;
  #link = null; // passes frames on
  #trying = null; // was begun, and has not passed a `session` frame on yet
  #transport = null; // of #link
  #timer = 0; // of the next attempt
  #limit = 0; // of the link being tried
  #probe = 0; // of the next try of a better transport
  #probeWait = FIRST_PROBE;
  #round = 0; // attempts that were begun; an older one is over
  #attempt = 0; // for backoff; 0 again after a steady connection
  #failures = 0; // since the last connection
  #readyAt = 0; // epoch milliseconds of the `session` frame, 0 without a connection
  #wanted = false;

  /**
   * `handler` has cursor(), frame(object), state(name, failures), closed(code, failures) and async refused(reason),
   * which returns whether to reconnect. The states are connecting, online and reconnecting.
   */
  constructor(token, handler) {
    this.#token = token;
    this.#handler = handler;
  }

  get ready() {
    return this.#readyAt > 0;
  }

  /** websocket, events or polling; null without a connection. */
  get transport() {
    return this.#transport;
  }

  open() {
    this.#wanted = true;
    this.#handler.state('connecting', 0);
    this.#connect();
  }

  close() {
    this.#wanted = false;
    this.#drop();
  }

  /** Reconnects at once: the connection may be dead without a close event, or the network another. */
  restart({ anew = false } = {}) {
    if (!this.#wanted) return;
    if (anew) tabStorage.set(WORKED, null);
    this.#drop();
    this.#handler.state('reconnecting', this.#failures);
    this.#connect();
  }

  /** Starts the next attempt at once, if one is scheduled. */
  nudge() {
    if (this.#timer && !this.#link) this.#connect();
  }

  /** Returns whether the frame was sent. */
  send(frame) {
    return this.#link?.send(frame) ?? false;
  }

  /** Tries the transports until one connects. */
  async #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#round += 1;
    const best = TRANSPORTS.find((name) => name === tabStorage.get(WORKED));
    const others = TRANSPORTS.filter((name) => name !== best);
    const trusted = best === 'websocket' && this.#failures < TRUSTED_FAILURES;
    const end = await this.#tryAll(best ? [best, ...(trusted ? [] : others)] : others);
    if (end) this.#lost(...end);
  }

  /** Returns how the last of them was closed; null when one connects, or another round begins. */
  async #tryAll(names) {
    const round = this.#round;
    for (const name of names) {
      const end = await this.#try(name);
      if (!end || round !== this.#round) return null;
      // The server itself refuses.
      if (end[0] !== ABNORMAL || name === names.at(-1)) return end;
    }
    return null;
  }

  /** Returns null when the transport connects, or another round has begun, else the code and reason of its end. */
  async #try(name) {
    const round = this.#round;
    let Link;
    try {
      Link = await LINKS[name]();
    } catch {
      return [ABNORMAL, '']; // the server does not answer
    }
    return round === this.#round ? new Promise((resolve) => this.#open(Link, name, resolve)) : null;
  }

  #open(Link, name, resolve) {
    const ended = (code, reason) => {
      if (link === this.#trying) this.#stopTrying();
      resolve([code, reason]);
      if (link === this.#link) this.#lost(code, reason);
    };
    const link = new Link(this.#token, this.#handler.cursor(), {
      frame: (frame) => {
        if (link === this.#trying && frame.type === 'session') {
          this.#adopt(name);
          resolve(null);
        }
        if (link === this.#link) this.#handler.frame(frame);
      },
      closed: ended,
    });
    this.#trying = link;
    this.#limit = setTimeout(() => ended(ABNORMAL, ''), OPEN_LIMIT[name]);
  }

  #stopTrying() {
    clearTimeout(this.#limit);
    this.#trying?.close();
    this.#trying = null;
  }

  /** The link that was tried passes frames on from now on, in place of another one if there is one. */
  #adopt(name) {
    clearTimeout(this.#limit);
    this.#link?.close();
    this.#link = this.#trying;
    this.#trying = null;
    this.#transport = name;
    this.#readyAt = Date.now();
    tabStorage.set(WORKED, name);
    this.#scheduleProbe();
    this.#handler.state('online', 0);
  }

  /** Tries better transports now and then; one that connects takes over. */
  #scheduleProbe() {
    clearTimeout(this.#probe);
    const better = TRANSPORTS.slice(0, TRANSPORTS.indexOf(this.#transport));
    if (!better.length) this.#probeWait = FIRST_PROBE;
    if (!better.length || !this.#link) return;
    this.#probe = setTimeout(async () => {
      this.#probeWait = Math.min(2 * this.#probeWait, LAST_PROBE);
      if (await this.#tryAll(better)) this.#scheduleProbe();
    }, this.#probeWait);
  }

  async #lost(code, reason) {
    if (this.ready && Date.now() - this.#readyAt > STEADY_AFTER) this.#attempt = 0;
    this.#failures = this.ready ? 0 : this.#failures + 1;
    this.#drop();
    if (code === STALLED) tabStorage.set(WORKED, 'polling');
    this.#handler.closed(code, this.#failures);
    if (code === POLICY && !(await this.#handler.refused(reason))) {
      this.#wanted = false;
      return;
    }
    if (!this.#wanted || this.#link || this.#trying) return;
    if (code === TRY_LATER) this.#attempt = Math.max(this.#attempt, 3);
    this.#handler.state('reconnecting', this.#failures);
    this.#timer = setTimeout(() => this.#connect(), backoff(this.#attempt));
    this.#attempt += 1;
  }

  #drop() {
    this.#round += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#probe);
    this.#timer = 0;
    this.#readyAt = 0;
    this.#transport = null;
    this.#stopTrying();
    this.#link?.close();
    this.#link = null;
  }
}
