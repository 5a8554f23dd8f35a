/** The page: who is here, which chat is shown, and which part is told of what. */

import { announce } from './announcer.js';
import { Chat } from './chat.js';
import { Chats, titleOf } from './chats.js';
import { copyText } from './clipboard.js';
import { Composer } from './composer.js';
import { download, fileName, messagesOf, toJson, toMarkdown } from './export.js';
import { plainText } from './markdown.js';
import { browserMemory, createSession, loadSession, newId, tabMemory } from './session.js';
import { Sidebar } from './sidebar.js';
import { View } from './view.js';

const NOTICE_LASTS = 8_000;
const COPIED_LASTS = 2_000;
const LOOK_INTERVAL = 15_000; // at whether earlier chats have ended
const SPOKEN = 1_500; // characters of a reply that a screen reader is told of by itself
const NEW = 'New chat';
const CONNECTIONS = {
  connecting: ['busy', 'Connecting'],
  reconnecting: ['trouble', 'Reconnecting'],
  unreachable: ['failed', 'Server out of reach'],
  expired: ['failed', 'Chat expired'],
};

const page = Object.fromEntries(Array.from(document.querySelectorAll('[id]'), (node) => [node.id, node]));
const chats = new Chats();

let chat = null;
let ownName = browserMemory.get('chat.name') ?? '';
let ttl = null; // seconds that a session lives after its last use
let stateScheduled = false;
let noticeTimer = 0;
let spoken = '';
let carried = tabMemory.get('chat.carried') ?? ''; // not sent in chats that have expired, for the next new one

const composer = new Composer(say);

function say(text) {
  if (leaveForgotten()) return;
  view.follow();
  chat.send(newId(), text);
  chats.note(chat.token, { used: Date.now() });
}

const view = new View((action, id, button) => {
  const turn = chat.conversation.get(id);
  if (action === 'copy') copy(turn.reply.text, button);
  else if (action === 'copyCode') copy(button.closest('.code').querySelector('code').textContent, button);
  else if (turn?.state !== 'failed') return;
  else if (action === 'edit') {
    chat.conversation.remove(turn);
    composer.putBack(turn.text);
  } else {
    composer.focusIfHandy();
    chat[action](turn);
  }
});

const sidebar = new Sidebar((token) => {
  const entry = chats.get(token);
  if (entry && token !== chat?.token) openChat(token, entry.name, false);
});

async function copy(text, button) {
  if (!(await copyText(text))) {
    notice('This browser did not let the page copy that.');
    return;
  }
  announce('Copied.');
  const label = button.querySelector('span') ?? button;
  label.textContent = 'Copied';
  setTimeout(() => {
    label.textContent = 'Copy';
  }, COPIED_LASTS);
}

function notice(text) {
  page.notice.textContent = text;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => {
    page.notice.textContent = '';
  }, NOTICE_LASTS);
}

function currentState() {
  if (chat.connection !== 'online') return CONNECTIONS[chat.connection];
  const { waiting, order } = chat.conversation;
  if (waiting.some((turn) => turn.status?.state === 'loading')) return ['busy', 'Loading the model'];
  if (waiting.some((turn) => turn.status?.state === 'retrying')) return ['trouble', 'Trying again'];
  if (waiting.some((turn) => turn.reply)) return ['busy', 'Generating'];
  if (waiting.length) return ['busy', 'Waiting for reply'];
  if (order.at(-1)?.state === 'failed') return ['failed', order.at(-1).stored ? 'Reply failed' : 'Not sent'];
  return ['calm', 'Connected'];
}

function drawState() {
  stateScheduled = false;
  if (!chat) return;
  const [kind, text] = currentState();
  page.state.dataset.kind = kind;
  if (page.stateText.textContent !== text) page.stateText.textContent = text;
  if (chat.connection !== spoken) {
    if (chat.connection === 'reconnecting' && spoken === 'online') announce('Connection lost. Reconnecting.');
    if (chat.connection === 'unreachable' || chat.connection === 'expired') announce(text);
    if (chat.connection === 'online' && spoken && spoken !== 'connecting') announce('Connected again.');
    spoken = chat.connection;
  }

  const { order, waiting } = chat.conversation;
  const expired = chat.connection === 'expired';
  if (expired) {
    dropEnded(chat.token);
    if (order.length === 0) {
      showStart('', 'That chat has expired. Start a new one any time.');
      return;
    }
  }
  greet(chat.name);
  drawTitle();
  page.ended.hidden = !expired;
  composer.enabled = !expired;
  page.empty.hidden = order.length > 0 || chat.connection !== 'online';
  page.exports.hidden = order.length === 0;
  page.forget.hidden = expired;

  const awaited = waiting.length > 0 && !expired;
  if (!awaited && page.stop.matches(':focus-visible')) composer.focus();
  page.stop.hidden = !awaited;
  page.stop.disabled = chat.stopping || chat.connection !== 'online';
}

function drawTitle() {
  const first = chat.conversation.order.find((turn) => turn.text !== null);
  const title = first ? titleOf(first.text) : '';
  if (first && chats.get(chat.token)?.title === '') chats.note(chat.token, { title });
  page.title.textContent = title || NEW;
  document.title = title ? `${title} · Chat` : 'Chat';
  drawChats();
}

function drawChats() {
  sidebar.draw(chats.all, chat?.token, ttl);
}

function dropEnded(token) {
  chats.remove(token);
  for (const memory of [browserMemory, tabMemory]) {
    if (memory.get('chat.token') === token) memory.set('chat.token', null);
  }
  drawChats();
}

/** Leaves the shown chat for the start page, and keeps nothing of it in this browser. */
function forget(hint) {
  const { token } = chat;
  chat.close();
  chat = null;
  page.leave.close();
  view.clear();
  composer.forget(token);
  tabMemory.set(unstoredKey(token), null);
  if (!chats.isForgotten(token)) chats.forget(token);
  dropEnded(token);
  showStart('', hint);
}

/** Another tab may have forgotten the chat that is shown here. */
function leaveForgotten() {
  if (!chat || !chats.isForgotten(chat.token)) return false;
  forget('That chat was forgotten in another tab. Start a new one any time.');
  return true;
}

/** A session begins to live anew whenever it is used. */
function lives(seconds = ttl) {
  if (seconds === null || !chat || chat.connection === 'expired') return;
  ttl = seconds;
  chats.note(chat.token, { name: chat.name, expires: Date.now() + seconds * 1000 });
  drawChats();
}

/** Asks after chats that should have ended by now, for somebody else may have used them. */
async function lookAtOverdue() {
  for (const { token } of chats.overdue) {
    if (token === chat?.token && chat.connection !== 'expired') continue;
    try {
      await loadSession(token);
      chats.note(token, { expires: Date.now() + (ttl ?? 0) * 1000 });
    } catch (error) {
      if (error.expired) dropEnded(token);
      else return;
    }
  }
}

const unstoredKey = (token) => `chat.unstored.${token}`;

function keepUnstored() {
  if (!chat) return;
  const expired = chat.connection === 'expired';
  const turns = expired ? [] : chat.unstored;
  tabMemory.set(unstoredKey(chat.token), turns.length ? JSON.stringify(turns) : null);
  if (expired) tabMemory.set('chat.carried', textToCarry());
}

/** What was written and can't be sent any more where it was written. */
function textToCarry() {
  if (chat?.connection !== 'expired') return carried;
  return [carried, ...chat.unstored.map(({ text }) => text), composer.text].filter((text) => text.trim()).join('\n\n');
}

function openChat(token, name, fresh) {
  keepUnstored();
  carried = textToCarry();
  if (chat?.connection === 'expired') composer.forget(chat.token);
  chat?.close();
  view.clear();
  spoken = '';
  page.notice.textContent = '';
  const opened = new Chat(
    token,
    {
      state() {
        if (stateScheduled || opened !== chat) return;
        stateScheduled = true;
        requestAnimationFrame(drawState);
      },
      lives,
      notice,
      changed: (turn) => view.touch(turn),
      ordered() {
        view.arrange(opened.conversation.order);
        if (opened === chat) keepUnstored();
      },
      finished(turn) {
        lives();
        announce(`Assistant: ${plainText(turn.reply.text.slice(0, SPOKEN)) || 'stopped without a word'}`);
      },
      failed: (turn) => announce(turn.stored ? 'The reply failed.' : 'A message was not sent.'),
    },
    { fresh },
  );
  chat = opened;
  chat.name = name;
  tabMemory.set('chat.token', token);
  browserMemory.set('chat.token', token);
  if (!chats.get(token)) chats.note(token, { name });
  const left = fresh ? null : JSON.parse(tabMemory.get(unstoredKey(token)) ?? 'null');
  if (left) chat.restore(left);
  composer.open(token, fresh ? carried : '');
  if (fresh) {
    carried = '';
    tabMemory.set('chat.carried', null);
  }
  show('chat');
  drawState();
  composer.focusIfHandy();
  chat.open();
}

function greet(name) {
  if (!name) return;
  ownName = name;
  browserMemory.set('chat.name', name);
  page.hello.textContent = `Hello, ${name}`;
}

/** One of the two views, `start` or `chat`. */
function show(name) {
  document.body.dataset.view = name;
  page.start.hidden = name !== 'start';
  page.chat.hidden = name !== 'chat';
}

function showStart(problem = '', hint = '') {
  show('start');
  if (hint) page.startHint.textContent = hint;
  document.title = 'Chat';
  page.title.textContent = 'Chat';
  page.name.value ||= ownName;
  page.startError.textContent = problem;
  page.name.focus();
}

function explain({ code, message, retryAfter }) {
  if (code === 'invalid_name') return 'This name cannot be used. Please write one of up to 64 ordinary characters.';
  if (code === 'rate_limited') return `Too many new chats. Try again in ${retryAfter ?? 'a few'} seconds.`;
  if (code === 'network') return 'The server cannot be reached. Try again in a moment.';
  return message;
}

async function start(name) {
  page.startButton.disabled = true;
  page.newChat.disabled = true;
  try {
    const session = await createSession(name);
    openChat(session.token, session.name, true);
  } catch (error) {
    if (!error.code) throw error;
    if (page.chat.hidden || error.code === 'invalid_name') showStart(explain(error));
    else notice(explain(error));
  } finally {
    page.startButton.disabled = false;
    page.newChat.disabled = false;
  }
}

function startAnother() {
  sidebar.close();
  if (chat && chat.connection !== 'expired' && chat.conversation.order.length === 0) composer.focus();
  else if (ownName) start(ownName);
  else showStart();
}

page.startForm.addEventListener('submit', (event) => {
  event.preventDefault();
  const name = page.name.value.trim();
  if (name) start(name);
  else showStart('Please write your name.');
});
page.newChat.addEventListener('click', startAnother);
page.newHere.addEventListener('click', startAnother);
page.endedNew.addEventListener('click', startAnother);
page.suggestions.addEventListener('click', ({ target }) => {
  if (target.closest('button')) say(target.closest('button').textContent.trim());
  composer.focusIfHandy();
});
page.stop.addEventListener('click', () => {
  if (page.stop.matches(':focus-visible')) composer.focus();
  else composer.focusIfHandy();
  chat.stop();
});

/** What the server holds; what is held here when it can't be asked. */
async function messagesToExport({ token, conversation, connection }) {
  if (connection === 'online') {
    try {
      return (await loadSession(token)).messages;
    } catch (error) {
      if (!error.code) throw error;
    }
  }
  return messagesOf(conversation);
}

for (const [id, type, suffix, write] of [
  ['exportMarkdown', 'text/markdown', 'md', toMarkdown],
  ['exportJson', 'application/json', 'json', toJson],
]) {
  page[id].addEventListener('click', async () => {
    page.menu.hidePopover();
    const title = page.title.textContent;
    const shown = chat;
    download(fileName(title, suffix), type, write(shown, await messagesToExport(shown), title));
  });
}
page.forget.addEventListener('click', () => {
  page.menu.hidePopover();
  page.leave.showModal();
});
page.leave.addEventListener('close', () => {
  if (chat && page.leave.returnValue === 'leave') forget('The chat is forgotten. Start a new one any time.');
  page.leave.returnValue = '';
});

window.addEventListener('online', () => chat?.wake(true));
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'visible') return;
  leaveForgotten();
  chat?.wake();
  lookAtOverdue();
});
window.addEventListener('storage', () => {
  leaveForgotten();
  drawChats();
});
window.addEventListener('pagehide', keepUnstored);
setInterval(lookAtOverdue, LOOK_INTERVAL);

const token = [tabMemory, browserMemory]
  .map((memory) => memory.get('chat.token'))
  .find((known) => known && !chats.isForgotten(known));
if (token) openChat(token, ownName, false);
else showStart();
lookAtOverdue();
