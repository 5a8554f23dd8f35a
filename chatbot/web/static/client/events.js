/** A session's frames as server-sent events; the client's own as requests. */

import { ApiError, bearer, routeUrl } from './api.js';
import { closingOf, Posts } from './posts.js';
import { ABNORMAL, parse, STALLED } from './websocket.js';

// Milliseconds without anything: after an ack, and while only the server's comments keep the stream open.
const ANSWER_LIMIT = 8_000;
const SILENCE_LIMIT = 90_000;

export class EventsLink {
  #abort = new AbortController();
  #handler;
  #posts;
  #heardAt = 0;
  #silence = 0;

  /** `handler` has frame(object) and closed(code, reason), which is not called after `close`. */
  constructor(token, after, handler) {
    this.#handler = handler;
    this.#posts = new Posts(token, {
      frame: handler.frame,
      closed: (code, reason) => this.#end(code, reason),
      answered: (begun) => this.#expect(begun),
    });
    this.#read(token, after);
  }

  send(frame) {
    this.#posts.send(frame);
    return true;
  }

  close() {
    this.#abort.abort();
    this.#posts.close();
    clearTimeout(this.#silence);
  }

  #end(code, reason = '') {
    if (this.#abort.signal.aborted) return;
    this.close();
    this.#handler.closed(code, reason);
  }

  async #read(token, after) {
    try {
      const url = routeUrl('events');
      url.search = new URLSearchParams(after ? { after } : {});
      const options = { headers: bearer(token), cache: 'no-store', signal: this.#abort.signal };
      const response = await fetch(url, options);
      if (!response.ok) {
        this.#end(...closingOf(await errorOf(response)));
        return;
      }
      if (!response.headers.get('Content-Type')?.startsWith('text/event-stream')) this.#end(ABNORMAL);
      await this.#readEvents(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      // The network failed, or the stream was closed here.
    }
    this.#end(ABNORMAL);
  }

  async #readEvents(reader) {
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.#abort.signal.aborted) return;
      this.#heard();
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) this.#take(event.split('\n'));
    }
  }

  #take(lines) {
    const data = lines.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
    if (!data.length || this.#abort.signal.aborted) return;
    const object = parse(data.join('\n'));
    if (lines.includes('event: close')) this.#end(object.code, object.reason);
    else this.#handler.frame(object);
  }

  #heard() {
    this.#heardAt = Date.now();
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#end(STALLED), SILENCE_LIMIT);
  }

  /** What a request from the time `begun` on has caused must come soon. */
  #expect(begun) {
    if (this.#heardAt >= begun) return;
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#end(STALLED), ANSWER_LIMIT);
  }
}

async function errorOf(response) {
  const { error } = parse(await response.text());
  return new ApiError(error?.code ?? 'network', error?.message ?? '');
}
