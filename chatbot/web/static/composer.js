/** The field for writing. What is typed is kept, also over a refresh of the page. */

import { tabMemory } from './session.js';

const draftKey = (token) => `chat.draft.${token}`;

export class Composer {
  #form = document.getElementById('composer');
  #field = document.getElementById('draft');
  #button = document.getElementById('send');
  #enabled = true;
  #width = 0;
  #key = '';

  /** `send(text)` takes what was written. */
  constructor(send) {
    this.#field.addEventListener('input', () => this.#changed());
    this.#field.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const text = this.#field.value;
      if (!this.#enabled || !text.trim()) return;
      this.#field.value = '';
      this.#changed();
      this.#field.focus();
      send(text);
    });
    new ResizeObserver(() => {
      if (this.#field.offsetWidth !== this.#width) this.#fit();
    }).observe(this.#field);
    this.#changed();
  }

  /** Goes on with what was being written in a chat, or with `text`. */
  open(token, text = '') {
    this.#key = draftKey(token);
    this.#field.value = text || (tabMemory.get(this.#key) ?? '');
    this.#changed();
  }

  /** Keeps nothing any more of what was being written in a chat. */
  forget(token) {
    tabMemory.set(draftKey(token), null);
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

  /** Puts a text back to be edited, before whatever is being typed. */
  putBack(text) {
    const typed = this.#field.value;
    this.#field.value = typed ? `${text}\n${typed}` : text;
    this.#field.setSelectionRange(text.length, text.length);
    this.#changed();
    this.focus();
  }

  focus() {
    this.#field.focus();
  }

  /** Focus where it does not call up a keyboard over half of the screen. */
  focusIfHandy() {
    if (window.matchMedia('(hover: hover) and (pointer: fine)').matches) this.focus();
  }

  #changed() {
    this.#button.disabled = !this.#enabled || !this.#field.value.trim();
    if (this.#key) tabMemory.set(this.#key, this.#field.value);
    this.#fit();
  }

  /** As high as its text; the style sheet sets the limit. */
  #fit() {
    this.#width = this.#field.offsetWidth;
    this.#field.style.height = 'auto';
    const border = this.#field.offsetHeight - this.#field.clientHeight;
    if (this.#field.scrollHeight) this.#field.style.height = `${this.#field.scrollHeight + border}px`;
  }
}
