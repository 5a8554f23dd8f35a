/** localStorage and sessionStorage. Either may be full or forbidden: then the page remembers less, and works. */

class BrowserStorage {
  #name;

  constructor(name) {
    this.#name = name;
  }

  get(key) {
    try {
      return globalThis[this.#name].getItem(key);
    } catch {
      return null;
    }
  }

  /** Removes the entry when `value` is empty. */
  set(key, value) {
    try {
      if (value) globalThis[this.#name].setItem(key, value);
      else globalThis[this.#name].removeItem(key);
    } catch {
      // Only the next visit needs the value.
    }
  }
}

export const browserStorage = new BrowserStorage('localStorage');
export const tabStorage = new BrowserStorage('sessionStorage');
