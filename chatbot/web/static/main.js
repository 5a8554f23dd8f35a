/** The page: who is here, which chat is shown, and which part is told of what. */

import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { browserMemory, createSession, newId, tabMemory } from './session.js';
import { View } from './view.js';

const NOTICE_LASTS = 8_000;
const ANNOUNCEMENT_LASTS = 20_000;
const CONNECTIONS = {
  connecting: ['busy', 'Connecting'],
  reconnecting: ['trouble', 'Reconnecting'],
  unreachable: ['failed', 'Server out of reach'],
  expired: ['failed', 'Chat expired'],
};

const page = Object.fromEntries(Array.from(document.querySelectorAll('[id]'), (node) => [node.id, node]));

let chat = null;
let ownName = browserMemory.get('chat.name') ?? '';
let stateScheduled = false;
let noticeTimer = 0;
let spoken = '';

const composer = new Composer((text) => {
  view.follow();
  chat.send(newId(), text);
});

const view = new View((action, id) => {
  const turn = chat.conversation.get(id);
  if (!turn || turn.state !== 'failed') return;
  if (action === 'edit') {
    chat.conversation.remove(turn);
    composer.putBack(turn.text);
  } else {
    composer.focusIfHandy();
    chat[action](turn);
  }
});

/** Tells a screen reader, one finished thing at a time. */
function announce(text) {
  const line = document.createElement('p');
  line.textContent = text;
  page.announcer.append(line);
  setTimeout(() => line.remove(), ANNOUNCEMENT_LASTS);
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

  const expired = chat.connection === 'expired';
  if (expired) {
    forget();
    if (chat.conversation.order.length === 0) {
      showStart();
      page.startHint.textContent = 'Your last chat has expired. Start a new one any time.';
      return;
    }
  }
  page.ended.hidden = !expired;
  composer.enabled = !expired;
  page.empty.hidden = chat.conversation.order.length > 0 || chat.connection !== 'online';

  const awaited = chat.conversation.waiting.length > 0 && !expired;
  if (!awaited && page.stop.matches(':focus-visible')) composer.focus();
  page.stop.hidden = !awaited;
  page.stop.disabled = chat.stopping || chat.connection !== 'online';
}

function forget() {
  if (browserMemory.get('chat.token') === chat.token) browserMemory.set('chat.token', null);
}

function openChat(token, name, fresh) {
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
      named: greet,
      notice,
      changed: (turn) => view.touch(turn),
      ordered: () => view.arrange(opened.conversation.order),
      finished: (turn) => announce(`Assistant: ${turn.reply.text || 'stopped without a word'}`),
      failed: (turn) => announce(turn.stored ? 'The reply failed.' : 'A message was not sent.'),
    },
    { fresh },
  );
  chat = opened;
  greet(name);
  if (!fresh) {
    const left = JSON.parse(tabMemory.get('chat.unstored') ?? 'null');
    if (left?.token === token) chat.restore(left.turns);
  }
  page.start.hidden = true;
  page.chat.hidden = false;
  page.state.hidden = false;
  page.newChat.hidden = false;
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

function showStart(problem = '') {
  page.chat.hidden = true;
  page.state.hidden = true;
  page.newChat.hidden = true;
  page.start.hidden = false;
  page.name.value ||= ownName;
  page.startError.textContent = problem;
  page.name.focus();
}

function explain({ code, message, retryAfter }) {
  if (code === 'invalid_name') return message || 'Please write a name of up to 64 characters.';
  if (code === 'rate_limited') return `Too many new chats. Try again in ${retryAfter ?? 'a few'} seconds.`;
  if (code === 'network') return 'The server cannot be reached. Try again in a moment.';
  return message;
}

async function start(name) {
  page.startButton.disabled = true;
  page.newChat.disabled = true;
  try {
    const session = await createSession(name);
    browserMemory.set('chat.token', session.token);
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

page.startForm.addEventListener('submit', (event) => {
  event.preventDefault();
  const name = page.name.value.trim();
  if (name) start(name);
  else showStart('Please write your name.');
});

function startAnother() {
  if (ownName) start(ownName);
  else showStart();
}

page.newChat.addEventListener('click', () => {
  if (chat.connection === 'expired' || chat.conversation.order.length === 0) startAnother();
  else page.leave.showModal();
});
page.leave.addEventListener('close', () => {
  if (page.leave.returnValue === 'leave') startAnother();
  page.leave.returnValue = '';
});
page.endedNew.addEventListener('click', startAnother);
page.stop.addEventListener('click', () => {
  if (page.stop.matches(':focus-visible')) composer.focus();
  else composer.focusIfHandy();
  chat.stop();
});

window.addEventListener('online', () => chat?.wake(true));
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') chat?.wake();
});
window.addEventListener('pagehide', () => {
  const turns = chat?.unstored ?? [];
  tabMemory.set('chat.unstored', turns.length ? JSON.stringify({ token: chat.token, turns }) : null);
});

const token = browserMemory.get('chat.token');
if (token) openChat(token, ownName, false);
else showStart();
