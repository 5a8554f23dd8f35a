/** The page's entry point: connects the start page, the chat page and the list of chats, and handles the window's events. */

import { ChatList } from './chat-list.js';
import { setUpChatMenu } from './chat-menu.js';
import { ChatPage } from './chat-page.js';
import { page } from './page.js';
import { endSession } from './session.js';
import { StartPage } from './start-page.js';

const CHECK_INTERVAL = 15_000; // milliseconds between checks for chats that have ended

const list = new ChatList((token, name) => chatPage.open(token, name, false));
const startPage = new StartPage(({ token, name }) => chatPage.open(token, name, true));
const chatPage = new ChatPage(list, {
  named(name) {
    startPage.name = name;
  },
  left: (hint) => startPage.show({ hint }),
});

function startAnother() {
  const { chat } = chatPage;
  list.close();
  if (chat && chat.connection !== 'expired' && chat.conversation.order.length === 0) chatPage.focus();
  else if (startPage.name) startPage.createSession(startPage.name);
  else startPage.show();
}

/** Forgets the shown chat here, and has the server delete it; one that cannot be reached deletes it at its end. */
async function forgetChat() {
  const { token, connection } = chatPage.chat;
  chatPage.forget('The chat is forgotten. Start a new one any time.');
  if (connection === 'expired') return;
  try {
    await endSession(token);
  } catch (error) {
    if (!error.code) throw error;
  }
}

for (const button of [page.newChat, page.newHere, page.endedNew]) button.addEventListener('click', startAnother);

setUpChatMenu({
  shown: () => chatPage.chat,
  forget: forgetChat,
});

window.addEventListener('online', () => chatPage.chat?.wake(true));
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'visible') return;
  chatPage.leaveForgotten();
  chatPage.chat?.wake();
  list.checkOverdue();
});
window.addEventListener('storage', () => {
  chatPage.leaveForgotten();
  list.draw();
});
window.addEventListener('pagehide', () => chatPage.save());
setInterval(() => list.checkOverdue(), CHECK_INTERVAL);

const { latest } = list;
if (latest) chatPage.open(latest, startPage.name, false);
else startPage.show();
list.checkOverdue();
