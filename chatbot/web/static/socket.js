/** A websocket that reconnects by itself, with exponential backoff, and passes frames on. */

// Milliseconds.
const FIRST_WAIT = 300;
const LONGEST_WAIT = 10_000;
const HANDSHAKE_LIMIT = 10_000;
const STEADY_AFTER = 5_000;
// Close codes, see docs/protocol.md.
const POLICY = 1008;
const TRY_LATER = 1013;

/** Milliseconds before attempt number `attempt`: exponential, with jitter to spread the clients of a restarted server. */
export function backoff(attempt) {
  const base = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt);
  return Math.min(LONGEST_WAIT, Math.max(FIRST_WAIT, base * (0.5 + Math.random())));
}

export class Socket {
  #handler;
  #ws = null;
  #timer = 0;
  #attempt = 0; // for backoff; 0 again after a steady connection
  #failures = 0; // since the last connection
  #readyAt = 0; // epoch milliseconds of the `session` frame, 0 without a connection
  #open = false;

  /**
   * `handler` has url(), frame(object), state(name, failures), closed(code, failures) and async refused(reason), which
   * returns whether to reconnect. The states are connecting, online and reconnecting.
   */
  constructor(handler) {
    this.#handler = handler;
  }

  get ready() {
    return this.#readyAt > 0;
  }

  open() {
    this.#open = true;
    this.#handler.state('connecting', 0);
    this.#connect();
  }

  close() {
    this.#open = false;
    this.#drop();
  }

  /** Reconnects at once: the connection may be dead without a close event. */
  restart() {
    if (!this.#open) return;
    this.#drop();
    this.#handler.state('reconnecting', this.#failures);
    this.#connect();
  }

  /** Starts the next attempt at once, if one is scheduled. */
  nudge() {
    if (this.#timer && !this.#ws) this.#connect();
  }

  /** Returns whether the frame was sent. */
  send(frame) {
    if (!this.ready || this.#ws.readyState !== WebSocket.OPEN) return false;
    this.#ws.send(JSON.stringify(frame));
    return true;
  }

  #connect() {
    clearTimeout(this.#timer);
    const ws = new WebSocket(this.#handler.url());
    this.#ws = ws;
    this.#timer = setTimeout(() => {
      if (ws === this.#ws && !this.ready) this.#lost(1006, '');
    }, HANDSHAKE_LIMIT);
    ws.addEventListener('message', (event) => {
      if (ws === this.#ws) this.#receive(event.data);
    });
    ws.addEventListener('close', (event) => {
      if (ws === this.#ws) this.#lost(event.code, event.reason);
    });
  }

  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame === null || typeof frame !== 'object') return;
    if (frame.type === 'session' && !this.ready) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      this.#readyAt = Date.now();
      this.#handler.state('online', 0);
    }
    this.#handler.frame(frame);
  }

  async #lost(code, reason) {
    if (this.ready && Date.now() - this.#readyAt > STEADY_AFTER) this.#attempt = 0;
    this.#failures = this.ready ? 0 : this.#failures + 1;
    this.#drop();
    this.#handler.closed(code, this.#failures);
    if (code === POLICY && !(await this.#handler.refused(reason))) {
      this.#open = false;
      return;
    }
    if (!this.#open || this.#ws) return;
    if (code === TRY_LATER) this.#attempt = Math.max(this.#attempt, 3);
    this.#handler.state('reconnecting', this.#failures);
    this.#timer = setTimeout(() => this.#connect(), backoff(this.#attempt));
    this.#attempt += 1;
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#readyAt = 0;
    const ws = this.#ws;
    this.#ws = null;
    ws?.close();
  }
}
