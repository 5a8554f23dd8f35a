/** One reply of the bot, growing or complete. Offsets count Unicode code points, see docs/protocol.md. */

const isHigh = (unit) => unit >= 0xd800 && unit <= 0xdbff;
const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

/** The number of code points in a string; a surrogate pair is one. */
export function countPoints(text) {
  let pairs = 0;
  for (let i = 1; i < text.length; i += 1) {
    if (isLow(text.charCodeAt(i)) && isHigh(text.charCodeAt(i - 1))) {
      pairs += 1;
      i += 1;
    }
  }
  return text.length - pairs;
}

/** The index in UTF-16 units of code point `offset`, found from the nearer end of the text. */
function unitIndex(text, points, offset) {
  if (offset <= 0) return 0;
  if (offset >= points) return text.length;
  if (text.length === points) return offset;
  if (offset <= points / 2) {
    let index = 0;
    for (let left = offset; left > 0; left -= 1) {
      const pair = isHigh(text.charCodeAt(index)) && isLow(text.charCodeAt(index + 1));
      index += pair ? 2 : 1;
    }
    return index;
  }
  let index = text.length;
  for (let left = points - offset; left > 0; left -= 1) {
    const pair = isLow(text.charCodeAt(index - 1)) && isHigh(text.charCodeAt(index - 2));
    index -= pair ? 2 : 1;
  }
  return index;
}

/** text[:offset] + msg; `points` counts the code points of the text. At its end the cost depends on `msg` only. */
function written({ text, points }, offset, msg) {
  const cut = offset < points;
  const start = cut ? text.slice(0, unitIndex(text, points, offset)) : text;
  return { text: start + msg, points: (cut ? Math.max(0, offset) : points) + countPoints(msg) };
}

export class Reply {
  #thinking = { text: '', points: 0 };

  constructor(id, { reply_to: replyTo = null, request = null } = {}) {
    this.id = id;
    this.replyTo = replyTo; // id of the human message
    this.request = request; // id of the regeneration that it answers, if any
    this.text = '';
    this.points = 0;
    this.complete = false;
    this.finishReason = null;
    this.timestamp = null;
    this.rating = null; // up or down
    this.usage = null; // the tokens that it took
    this.opinion = null; // the user's text with the rating
    this.asksWhy = false; // the user has just rated it in this tab
  }

  /** What the model thought before the text. */
  get reasoning() {
    return this.#thinking.text;
  }

  write(offset, msg) {
    Object.assign(this, written(this, offset, msg));
  }

  /** Thinking from the beginning begins the reply anew. */
  think(offset, msg) {
    if (offset === 0) this.write(0, '');
    this.#thinking = written(this.#thinking, offset, msg);
  }

  /** Sets the final text, whatever was written before. */
  finish({ msg, reasoning = '', finish_reason: finishReason = null, timestamp = null, feedback = null, usage = null }) {
    this.text = msg;
    this.points = countPoints(msg);
    this.#thinking = { text: reasoning, points: countPoints(reasoning) };
    this.finishReason = finishReason;
    this.timestamp = timestamp;
    this.rating = feedback?.rating ?? null;
    this.usage = usage;
    this.opinion = feedback?.text ?? null;
    this.complete = true;
  }
}
