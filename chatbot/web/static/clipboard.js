/** Copies to the clipboard, also over plain HTTP, where browsers have no Clipboard API. */

import { announce, notice } from './page.js';

const COPIED_DURATION = 2_000; // milliseconds

/** Copies for a click on `button`, and shows the result on it. */
export async function copy(text, button) {
  if (!(await copyText(text))) {
    notice('The browser did not allow the page to copy that.');
    return;
  }
  announce('Copied.');
  const label = button.querySelector('span') ?? button;
  label.textContent = 'Copied';
  setTimeout(() => {
    label.textContent = 'Copy';
  }, COPIED_DURATION);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = document.createElement('textarea');
  field.value = text;
  field.className = 'unseen';
  field.readOnly = true;
  document.body.append(field);
  field.select();
  try {
    return document.execCommand('copy');
  } catch {
    return false;
  } finally {
    field.remove();
    focused?.focus({ preventScroll: true });
  }
}
