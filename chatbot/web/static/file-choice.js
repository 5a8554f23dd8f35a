/** Takes the file of a chat: chosen in a dialog, or dropped anywhere on the page. */

import { loadImport } from './later.js';
import { page } from './page.js';

const UNREACHABLE = 'The server cannot be reached, so nothing was imported. Try again in a moment.';

const holdsFile = (event) => event.dataTransfer?.types.includes('Files');

/** `imported(session)` is called with the new session, `failed(text)` with what went wrong. */
export function setUpImport({ imported, failed }) {
  async function take(file) {
    page.importError.textContent = '';
    document.body.dataset.importing = 'busy';
    const { session, problem } = (await (await loadImport())?.importChat(file)) ?? { problem: UNREACHABLE };
    delete document.body.dataset.importing;
    if (session) imported(session);
    else failed(problem);
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
