/** A session's frames on a websocket. */

import { routeUrl } from './api.js';

// Close codes, see docs/protocol.md; the last is this client's own: nothing came for too long, as if held back on its way.
export const ABNORMAL = 1006;
export const POLICY = 1008;
export const TRY_LATER = 1013;
export const STALLED = 4000;

export class WebSocketLink {
  #ws;

  /** `handler` has frame(object) and closed(code, reason), which is not called after `close`. */
  constructor(token, after, { frame, closed }) {
    const url = routeUrl('chat');
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams(after ? { token, after } : { token });
    const ws = new WebSocket(url.href);
    this.#ws = ws;
    ws.addEventListener('message', ({ data }) => {
      if (this.#ws) frame(parse(data));
    });
    ws.addEventListener('close', ({ code, reason }) => {
      if (this.#ws) closed(code, reason);
    });
  }

  /** Returns whether the frame was sent. */
  send(frame) {
    if (this.#ws?.readyState !== WebSocket.OPEN) return false;
    this.#ws.send(JSON.stringify(frame));
    return true;
  }

  close() {
    const ws = this.#ws;
    this.#ws = null;
    ws?.close();
  }
}

/** The object in a text; an empty one if there is none. */
export function parse(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
