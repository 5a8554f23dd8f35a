/** Imports a chat that was exported as JSON. */

import { request } from './client/api.js';

const LIMIT = 4 * 1024 * 1024; // bytes that the server takes
const TOO_LARGE = 'This file is too large to be imported: it may have 4 MB.';

const REMEDY = 'Choose one that “Export as JSON” has saved.';

function explain({ code, status, message, retryAfter }) {
  if (status === 413) return TOO_LARGE;
  if (code === 'rate_limited') return `Too many new chats. Try again in ${retryAfter ?? 'a few'} seconds.`;
  if (code === 'network') return 'The server cannot be reached, so nothing was imported. Try again in a moment.';
  return code === 'invalid_import' ? `${message}. ${REMEDY}` : `${message}.`;
}

/** Creates a session with the messages of a file. Returns {session}, or {problem}, a text for the user. */
export async function importChat(file) {
  if (file.size > LIMIT) return { problem: TOO_LARGE };
  try {
    const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: file };
    return { session: await request('import', options) };
  } catch (error) {
    if (!error.code) throw error;
    return { problem: explain(error) };
  }
}
