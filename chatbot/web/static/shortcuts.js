/** Keys that work anywhere on the page, and their list. */

import { page } from './page.js';

const isField = (node) => node?.matches?.('input, textarea, select, [contenteditable]');
const isOpen = () => document.querySelector('dialog[open], :popover-open, .side.open') !== null;

function showList() {
  page.menu.hidePopover();
  page.shortcuts.showModal();
}

const isText = ({ key, ctrlKey, metaKey, altKey }) =>
  key.length === 1 && key !== ' ' && !(ctrlKey || metaKey || altKey);

/**
 * `stop()` is called for Escape, when nothing is open that Escape closes; `type()` before a character arrives that is
 * typed where nothing takes it.
 */
export function setUpShortcuts({ stop, type }) {
  page.showShortcuts.addEventListener('click', showList);
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing || isOpen()) return;
    if (event.key === 'Escape') stop();
    else if (event.key === '?' && !isField(event.target)) showList();
    else if (isText(event) && [document.body, page.scroller].includes(event.target)) type();
  });
}
