/** The field for the next message. Each chat's draft survives a refresh of the page. */

import { announce } from './page.js';
import { tabStorage } from './storage.js';

// A computer with a mouse has a keyboard; on phones and tablets Enter makes a new line, and the button sends.
const hasKeyboard = window.matchMedia('(hover: hover) and (pointer: fine)');
const NEARLY = 0.9; // of the longest text: the length is shown
const draftKey = (token) => `chat.draft.${token}`;

export class Composer {
  #form = document.getElementById('composer');
  #field = document.getElementById('draft');
  #button = document.getElementById('send');
  #length = document.getElementById('length');
  #excess = 0; // characters by which the text is too long
  #enabled = true;
  onUp = null; // called for the arrow key in an empty field
  #width = 0;
  #key = '';

  /** `send(text)` is called with each message. */
  constructor(send) {
    this.#field.addEventListener('input', () => this.#changed());
    this.#field.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowUp' && !this.#field.value && !event.isComposing) {
        event.preventDefault();
        this.onUp?.();
        return;
      }
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      // An on-screen keyboard has no Shift + Enter.
      if (!hasKeyboard.matches && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const text = this.#field.value;
      if (this.#excess) announce(this.#length.textContent);
      if (this.#button.disabled) return;
      this.#field.value = '';
      this.#changed();
      this.#field.focus();
      send(text);
    });
    new ResizeObserver(() => {
      if (this.#field.offsetWidth !== this.#width) this.#fit();
    }).observe(this.#field);
    this.#field.enterKeyHint = hasKeyboard.matches ? 'send' : 'enter';
    this.#changed();
  }

  /** Switches to a chat, with `text` or else its draft. */
  open(token, text = '') {
    this.#key = draftKey(token);
    this.#field.value = text || (tabStorage.get(this.#key) ?? '');
    this.#changed();
  }

  /** Removes a chat's draft. */
  forget(token) {
    tabStorage.set(draftKey(token), null);
    if (this.#key !== draftKey(token)) return;
    this.#key = '';
    this.#field.value = '';
    this.#changed();
  }

  get text() {
    return this.#field.value;
  }

  set enabled(value) {
    if (value === this.#enabled) return;
    this.#enabled = value;
    this.#changed();
  }

  /** Puts a text before the draft, to be edited. */
  putBack(text) {
    const typed = this.#field.value;
    this.#field.value = typed ? `${text}\n${typed}` : text;
    this.#field.setSelectionRange(text.length, text.length);
    this.#changed();
    this.focus();
  }

  /** Sets the text, to be edited. */
  replace(text) {
    this.#field.value = text;
    this.#changed();
    this.focus();
  }

  focus() {
    this.#field.focus();
  }

  /** Focuses the field, except where that opens an on-screen keyboard. */
  focusIfHandy() {
    if (hasKeyboard.matches) this.focus();
  }

  #changed() {
    this.#measure();
    this.#button.disabled = !this.#enabled || this.#excess > 0 || !this.#field.value.trim();
    if (this.#key) tabStorage.set(this.#key, this.#field.value);
    this.#fit();
  }

  /** Shows the length of a text that is nearly as long as a message may be, or longer. */
  #measure() {
    const { value } = this.#field;
    const longest = Number(this.#field.dataset.longest); // characters
    const count = value.length > NEARLY * longest ? Array.from(value).length : 0;
    const was = this.#excess;
    this.#excess = Math.max(0, count - longest);
    this.#length.hidden = count <= NEARLY * longest;
    this.#length.textContent = this.#excess
      ? `Too long by ${this.#excess.toLocaleString()}: a message may have ${longest.toLocaleString()} characters.`
      : `${count.toLocaleString()} of ${longest.toLocaleString()} characters`;
    this.#length.classList.toggle('problem', this.#excess > 0);
    this.#field.ariaInvalid = this.#excess ? 'true' : null;
    if (this.#excess && !was) announce(this.#length.textContent);
  }

  /** Makes the field as high as its text; the style sheet sets the limit. */
  #fit() {
    this.#width = this.#field.offsetWidth;
    this.#field.style.height = 'auto';
    const border = this.#field.offsetHeight - this.#field.clientHeight;
    if (this.#field.scrollHeight) this.#field.style.height = `${this.#field.scrollHeight + border}px`;
  }
}
