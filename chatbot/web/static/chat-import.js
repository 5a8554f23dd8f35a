/** Imports a chat that was exported as JSON: chosen as a file, or dropped anywhere on the page. */

import { importChat } from './client/api.js';
import { page } from './page.js';

const LIMIT = 4 * 1024 * 1024; // bytes that the server takes
const TOO_LARGE = 'This file is too large to be imported: it may have 4 MB.';

const REMEDY = 'Choose one that “Export as JSON” has saved.';

const holdsFile = (event) => event.dataTransfer?.types.includes('Files');

function explain({ code, status, message, retryAfter }) {
  if (status === 413) return TOO_LARGE;
  if (code === 'rate_limited') return `Too many new chats. Try again in ${retryAfter ?? 'a few'} seconds.`;
  if (code === 'network') return 'The server cannot be reached, so nothing was imported. Try again in a moment.';
  return code === 'invalid_import' ? `${message}. ${REMEDY}` : `${message}.`;
}

/** `imported(session)` is called with the new session, `failed(text)` with what went wrong. */
export function setUpImport({ imported, failed }) {
  async function take(file) {
    page.importError.textContent = '';
    document.body.dataset.importing = 'busy';
    try {
      if (file.size > LIMIT) failed(TOO_LARGE);
      else imported(await importChat(file));
    } catch (error) {
      if (!error.code) throw error;
      failed(explain(error));
    } finally {
      delete document.body.dataset.importing;
    }
  }

  for (const button of [page.importHere, page.importFirst]) {
    button.addEventListener('click', () => {
      page.menu.hidePopover();
      page.importFile.click();
    });
    button.disabled = false;
  }
  page.importFile.addEventListener('change', () => {
    const [file] = page.importFile.files;
    if (file) take(file);
    page.importFile.value = ''; // the same file may be chosen again
  });
  document.addEventListener('dragover', (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    document.body.dataset.importing = 'over';
  });
  document.addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) delete document.body.dataset.importing;
  });
  document.addEventListener('drop', (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    delete document.body.dataset.importing;
    const [file] = event.dataTransfer.files;
    if (file && !document.querySelector('dialog[open]')) take(file);
  });
}
