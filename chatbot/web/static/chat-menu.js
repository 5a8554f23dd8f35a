/** The menu of the shown chat: export as a file, and "Forget this chat" with its dialog. */

import { loadExport } from './later.js';
import { notice, page } from './page.js';

/** `shown()` returns the Chat that the page shows; `rename(title)` and `forget()` are called when the user confirms a dialog. */
export function setUpChatMenu({ shown, rename, forget }) {
  for (const [id, format] of [
    ['exportMarkdown', 'markdown'],
    ['exportJson', 'json'],
  ]) {
    page[id].addEventListener('click', async () => {
      page.menu.hidePopover();
      const [chat, title] = [shown(), page.title.textContent];
      const part = await loadExport();
      if (part) part.exportChat(chat, title, format);
      else notice('The server cannot be reached. Try again in a moment.');
    });
  }
  page.rename.addEventListener('click', () => {
    page.menu.hidePopover();
    page.newTitle.value = page.title.textContent;
    page.renaming.returnValue = '';
    page.renaming.showModal();
    page.newTitle.select();
  });
  page.newTitle.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.isComposing) return;
    event.preventDefault(); // the form's first button cancels
    page.renaming.close('rename');
  });
  page.renaming.addEventListener('close', () => {
    const title = page.newTitle.value.trim();
    if (shown() && title && page.renaming.returnValue === 'rename') rename(title);
  });
  page.forget.addEventListener('click', () => {
    page.menu.hidePopover();
    page.leave.showModal();
  });
  page.leave.addEventListener('close', () => {
    if (shown() && page.leave.returnValue === 'leave') forget();
    page.leave.returnValue = '';
  });
}
