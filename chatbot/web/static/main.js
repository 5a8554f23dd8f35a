/** The page's entry point: connects the start page, the chat page and the list of chats, and handles the window's events. */

import { idInAddress, showAddress } from './address.js';
import { setUpImport } from './chat-import.js';
import { ChatList } from './chat-list.js';
import { setUpChatMenu } from './chat-menu.js';
import { ChatPage } from './chat-page.js';
import { endSession } from './client/api.js';
import { notice, page } from './page.js';
import { setUpShortcuts } from './shortcuts.js';
import { StartPage } from './start-page.js';
import { applyTheme, setUpThemes } from './theme-menu.js';

const CHECK_INTERVAL = 15_000; // milliseconds between checks for chats that have ended

const list = new ChatList((token, name) => chatPage.open(token, name, false));
const startPage = new StartPage(({ token, name }) => chatPage.open(token, name, true));
const chatPage = new ChatPage(list, {
  named(name) {
    startPage.name = name;
  },
  left: openAnother,
});

/** Shows the chat used last, when the shown one is gone; the start page when there is no other. */
function openAnother(hint) {
  const next = list.find();
  if (next) {
    chatPage.open(next.token, next.name, false, { replace: true });
    notice(hint);
  } else {
    showAddress(null, { replace: true });
    startPage.show({ hint });
  }
}

/** Shows what the address names: a chat of this browser, or the start page. */
function followAddress() {
  list.hide();
  const id = idInAddress();
  const entry = id && list.find(id);
  if (entry && entry.token === chatPage.chat?.token) return;
  if (entry) {
    chatPage.open(entry.token, entry.name, false, { replace: true });
    return;
  }
  if (chatPage.chat) chatPage.leave();
  if (id) showAddress(null, { replace: true });
  startPage.show({ hint: id ? 'This browser does not have that chat. Start a new one any time.' : '' });
}

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
  rename(title) {
    list.rename(title);
    chatPage.redraw();
  },
  forget: forgetChat,
});

setUpImport({
  imported({ token, name }) {
    list.close();
    chatPage.open(token, name, false);
  },
  failed: (problem) => (page.chat.hidden ? startPage.show({ problem }) : notice(problem)),
});

window.addEventListener('popstate', followAddress);
setUpThemes();
setUpShortcuts({ stop: () => chatPage.stopReply() });
page.tryNow.addEventListener('click', () => chatPage.chat?.wake(true));
// Restarts the connection, which shows at once whether the server can still be reached.
window.addEventListener('offline', () => chatPage.chat?.wake(true));
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
  applyTheme();
});
window.addEventListener('pagehide', () => chatPage.save());
setInterval(() => list.checkOverdue(), CHECK_INTERVAL);

const latest = list.latest ?? list.find()?.token;
list.draw();
if (idInAddress()) followAddress();
else if (latest) chatPage.open(latest, startPage.name, false, { replace: true });
else startPage.show();
list.checkOverdue();
