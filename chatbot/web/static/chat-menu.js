/** The menu of the shown chat: export as a file, and "Forget this chat" with its dialog. */

import { loadMessages } from './client/api.js';
import { loadExport } from './later.js';
import { notice, page } from './page.js';

const EXPORTS = [
  ['exportMarkdown', 'text/markdown', 'md', 'toMarkdown'],
  ['exportJson', 'application/json', 'json', 'toJson'],
];

/** The server's messages; those that this page has loaded when the server cannot be asked. */
async function messagesToExport({ token, conversation, connection, hasEarlier }, messagesOf) {
  if (connection === 'online') {
    if (hasEarlier) notice('Loading the earlier messages…');
    try {
      const messages = await loadMessages(token);
      if (hasEarlier) notice('');
      return messages;
    } catch (error) {
      if (!error.code) throw error;
    }
  }
  if (hasEarlier) notice('The server cannot be asked for the earlier messages: the file has those shown here.');
  return messagesOf(conversation);
}

/** `shown()` returns the Chat that the page shows; `rename(title)` and `forget()` are called when the user confirms a dialog. */
export function setUpChatMenu({ shown, rename, forget }) {
  for (const [id, type, suffix, write] of EXPORTS) {
    page[id].addEventListener('click', async () => {
      page.menu.hidePopover();
      const title = page.title.textContent;
      const chat = shown();
      const file = await loadExport();
      if (file)
        file.download(title, suffix, type, file[write](chat, await messagesToExport(chat, file.messagesOf), title));
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
