/** The server's addresses, the HTTP routes of sessions, ids for messages, and waits. See docs/protocol.md. */

/** The server's root; the modules of this folder are three folders below it, and it may be below any path prefix. */
export const root = new URL('../../../', import.meta.url);

export const routeUrl = (path) => new URL(path, root);

export class ApiError extends Error {
  constructor(code, message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  get expired() {
    return this.code === 'session_not_found';
  }

  get damaged() {
    return this.code === 'session_damaged';
  }
}

const FIRST_WAIT = 300; // milliseconds
const LONGEST_WAIT = 10_000;

/** The header by which a request names its session. */
export const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/** Returns the response's JSON, or null without one. Throws an ApiError; its code is `network` without a response. */
export async function request(path, options) {
  let response;
  let body = null;
  try {
    response = await fetch(routeUrl(path), { cache: 'no-store', ...options });
  } catch {
    throw new ApiError('network', 'The server cannot be reached.');
  }
  if (response.status === 204) return null;
  try {
    body = await response.json();
  } catch {
    if (response.ok) throw new ApiError('network', 'The response was incomplete.', { status: response.status });
  }
  if (response.ok) return body;
  throw new ApiError(body?.error?.code ?? 'unavailable', body?.error?.message ?? 'The server cannot answer now.', {
    status: response.status,
    retryAfter: Number(response.headers.get('Retry-After')) || null,
  });
}

/** Creates a session and returns it. Throws an ApiError. */
export function createSession(name) {
  const headers = { 'Content-Type': 'application/json' };
  return request('token', { method: 'POST', headers, body: JSON.stringify({ name }) });
}

/**
 * Returns the session with the newest page of its history, or the page before the message `before`, and renews its time
 * to live. `more` says whether there are older messages, and `before` is the id to ask for them with. Throws an ApiError.
 */
export function loadPage(token, query = {}) {
  return request(`refresh_token?${new URLSearchParams(query)}`, { headers: bearer(token) });
}

/** Asks whether a session exists, and renews its time to live. Throws an ApiError. */
export function checkSession(token) {
  return loadPage(token, { limit: 1 });
}

/** Returns all messages of a session. Waits when the server asks for it. Throws an ApiError. */
export async function loadMessages(token) {
  const pages = [];
  for (let query = {}; ; ) {
    try {
      const { messages, more, before } = await loadPage(token, query);
      pages.unshift(messages);
      if (!more) return pages.flat();
      query = { before };
    } catch (error) {
      if (error.code === 'unknown_message') return pages.flat(); // dropped by the server meanwhile
      if (error.code !== 'rate_limited') throw error;
      await pause((error.retryAfter ?? 1) * 1000);
    }
  }
}

/** Ends the session: the server deletes all of it. Throws an ApiError. */
export function endSession(token) {
  return request('token', { method: 'DELETE', headers: bearer(token), keepalive: true });
}

/** A message id: 1 to 64 of A-Za-z0-9_-. Over plain HTTP browsers have no randomUUID. */
export function newId() {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Milliseconds before attempt number `attempt`: exponential, with jitter to spread the clients of a restarted server. */
export function backoff(attempt) {
  const base = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt);
  return Math.min(LONGEST_WAIT, Math.max(FIRST_WAIT, base * (0.5 + Math.random())));
}
