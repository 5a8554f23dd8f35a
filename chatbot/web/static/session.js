/** The session's HTTP routes, the address of its socket, and ids for messages. See docs/protocol.md. */

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
}

async function request(path, options) {
  let response;
  let body = null;
  try {
    response = await fetch(new URL(path, document.baseURI), { cache: 'no-store', ...options });
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
  return request('token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name }),
  });
}

/** Returns the session with its entire history, and renews its time to live. Throws an ApiError. */
export function loadSession(token) {
  return request('refresh_token', { headers: { Authorization: `Bearer ${token}` } });
}

/** Ends the session: the server deletes all of it. Throws an ApiError. */
export function endSession(token) {
  return request('token', { method: 'DELETE', headers: { Authorization: `Bearer ${token}` }, keepalive: true });
}

export function socketUrl(token, after) {
  const url = new URL('chat', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  url.search = new URLSearchParams(after ? { token, after } : { token });
  return url.href;
}

/** A message id: 1 to 64 of A-Za-z0-9_-. Over plain HTTP browsers have no randomUUID. */
export function newId() {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
