/** The page's elements by id, its two views, and short messages to the user: notices and announcements. */

// Milliseconds.
const NOTICE_DURATION = 8_000;
const ANNOUNCEMENT_DURATION = 20_000;

export const page = Object.fromEntries(Array.from(document.querySelectorAll('[id]'), (node) => [node.id, node]));

let noticeTimer = 0;

const root = document.documentElement;

/** The view that is shown, `start` or `chat`; early.js chooses the first one. */
export function shownView() {
  return root.dataset.view;
}

/** Shows one of the two views. */
export function showView(name) {
  root.dataset.view = name;
  page.chat.hidden = name !== 'chat';
}

/** Shows a notice above the composer for some seconds; an empty one removes the last. */
export function notice(text) {
  page.notice.textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => {
    page.notice.textContent = '';
  }, NOTICE_DURATION);
}

/** Has screen readers say a text. */
export function announce(text) {
  const line = document.createElement('p');
  line.textContent = text;
  page.announcer.append(line);
  setTimeout(() => line.remove(), ANNOUNCEMENT_DURATION);
}
