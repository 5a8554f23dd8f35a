/** What the model thought before its reply: a folded block above the reply, which grows while the model thinks. */

export class Thinking {
  #root = null;
  #text = null;
  #next;

  /** The block stands before the node `next`; it is made once there is something to show. */
  constructor(next) {
    this.#next = next;
  }

  set(text) {
    if (!text && !this.#root) return;
    this.#root ??= this.#create();
    this.#root.hidden = !text;
    const shown = this.#text.data;
    if (text.startsWith(shown)) this.#text.appendData(text.slice(shown.length));
    else this.#text.data = text;
  }

  #create() {
    const root = document.createElement('details');
    const summary = document.createElement('summary');
    const thought = document.createElement('div');
    root.className = 'thinking';
    summary.textContent = 'Thinking';
    thought.className = 'thought';
    thought.dir = 'auto';
    this.#text = document.createTextNode('');
    thought.append(this.#text);
    root.append(summary, thought);
    this.#next.before(root);
    return root;
  }
}

/** Thinking in Markdown: a quotation, in which no code block reaches beyond its end. */
export function quoted(text) {
  return `> *Thinking*\n>\n${text.replace(/^/gm, '> ')}`;
}
