/** The session over HTTP, and what this browser remembers of it. */

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
  try {
    body = await response.json();
  } catch {
    if (response.ok) throw new ApiError('network', 'The answer was cut short.', { status: response.status });
  }
  if (response.ok) return body;
  throw new ApiError(body?.error?.code ?? 'unavailable', body?.error?.message ?? 'The server cannot answer now.', {
    status: response.status,
    retryAfter: Number(response.headers.get('Retry-After')) || null,
  });
}

export function createSession(name) {
  return request('token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name }),
  });
}

/** The session with its whole history; its time to live starts anew. */
export function loadSession(token) {
  return request('refresh_token', { headers: { Authorization: `Bearer ${token}` } });
}

export function socketUrl(token, after) {
  const url = new URL('chat', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  url.search = new URLSearchParams(after ? { token, after } : { token });
  return url.href;
}

/** An id of the client's own: 1 to 64 of A-Za-z0-9_-. randomUUID is missing outside secure contexts. */
export function newId() {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Storage that may be full or forbidden: then the page just remembers less. */
class Memory {
  #name;

  constructor(name) {
    this.#name = name;
  }

  get(key) {
    try {
      return window[this.#name].getItem(key);
    } catch {
      return null;
    }
  }

  set(key, value) {
    try {
      if (value) window[this.#name].setItem(key, value);
      else window[this.#name].removeItem(key);
    } catch {
      // Nothing depends on it but the next visit.
    }
  }
}

export const browserMemory = new Memory('localStorage');
export const tabMemory = new Memory('sessionStorage');
