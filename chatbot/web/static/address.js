/** The addresses of chats: `/c/ID` with the session's id, below any path prefix. */

import { root, routeUrl } from './client/api.js';

export function chatPath(id) {
  return routeUrl(`c/${id}`).pathname;
}

/** The id of the chat in the page's address, or null. */
export function idInAddress() {
  return /\/c\/([0-9a-f]{32})$/.exec(window.location.pathname)?.[1] ?? null;
}

/** Shows the address of a chat, or with null that of the start page, as a new entry of the history or in place of the last. */
export function showAddress(id, { replace = false } = {}) {
  const path = id ? chatPath(id) : root.pathname;
  if (window.location.pathname === path && !window.history.state?.drawer) return;
  const instead = replace || Boolean(window.history.state?.drawer);
  window.history[instead ? 'replaceState' : 'pushState'](null, '', path);
}
