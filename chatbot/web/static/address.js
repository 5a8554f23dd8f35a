/** The addresses of chats: `/c/ID` with the session's id, below any path prefix. */

import { root, routeUrl } from './client/api.js';

export function chatPath(id) {
  return routeUrl(`c/${id}`).pathname;
}

/** What the page's address names as a chat, or null. */
export function idInAddress() {
  return /\/c\/([^/]+)$/.exec(window.location.pathname)?.[1] ?? null;
}

/** Shows the address of a chat, or with null that of the start page, as a new entry of the history or in place of the last. */
export function showAddress(id, { replace = false } = {}) {
  const path = id ? chatPath(id) : root.pathname;
  if (window.location.pathname === path && !window.history.state?.drawer) return;
  const instead = replace || Boolean(window.history.state?.drawer);
  window.history[instead ? 'replaceState' : 'pushState'](null, '', path);
}

const fraction = (number) => ((number - Math.floor(number)) * 2 ** 32) | 0;
const isPrime = (number) => {
  for (let factor = 2; factor * factor <= number; factor += 1) if (number % factor === 0) return false;
  return true;
};
const PRIMES = Array.from({ length: 312 }, (_, index) => index)
  .slice(2)
  .filter(isPrime);
const CONSTANTS = PRIMES.slice(0, 64).map((prime) => fraction(Math.cbrt(prime)));
const BEGIN = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));

const rotate = (word, by) => (word >>> by) | (word << (32 - by));

function words(bytes) {
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, bytes.length * 8);
  return Array.from({ length: padded.length / 4 }, (_, index) => view.getInt32(index * 4));
}

function mix(hash, block) {
  const schedule = [...block];
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    if (i >= 16) {
      const [x, y] = [schedule[i - 15], schedule[i - 2]];
      const low = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
      schedule[i] = (schedule[i - 16] + low + schedule[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10))) | 0;
    }
    const choice = (e & f) ^ (~e & g);
    const one = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + CONSTANTS[i] + schedule[i]) | 0;
    const two = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  return [a, b, c, d, e, f, g, h].map((word, index) => (word + hash[index]) | 0);
}

/** The id of a session: 32 hexadecimal characters of its token's SHA-256. Over plain HTTP browsers have no Web Crypto. */
export function sessionId(token) {
  const all = words(new TextEncoder().encode(token));
  let hash = BEGIN;
  for (let at = 0; at < all.length; at += 16) hash = mix(hash, all.slice(at, at + 16));
  return hash
    .map((word) => (word >>> 0).toString(16).padStart(8, '0'))
    .join('')
    .slice(0, 32);
}
