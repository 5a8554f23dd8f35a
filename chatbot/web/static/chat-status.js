/** The line that says how the connection and the reply are doing, and the announcements of a lost connection. */

import { announce, page } from './page.js';

const CONNECTIONS = {
  connecting: ['busy', 'Connecting'],
  reconnecting: ['trouble', 'Reconnecting'],
  offline: ['trouble', 'Offline'],
  unreachable: ['failed', 'Server unreachable'],
  expired: ['failed', 'Chat expired'],
  damaged: ['failed', 'Chat cannot be read'],
};

/** [kind, text]; the kinds are calm, busy, trouble and failed. */
function statusOf({ connection, damaged, conversation }) {
  if (damaged) return CONNECTIONS.damaged;
  if (connection !== 'online')
    return CONNECTIONS[connection === 'expired' || navigator.onLine ? connection : 'offline'];
  const { waiting, order } = conversation;
  if (waiting.some((turn) => turn.status?.state === 'loading')) return ['busy', 'Loading the model'];
  if (waiting.some((turn) => turn.status?.state === 'retrying')) return ['trouble', 'Trying again'];
  if (waiting.some((turn) => turn.reply)) return ['busy', 'Generating'];
  if (waiting.length) return ['busy', 'Waiting for reply'];
  if (order.at(-1)?.state === 'failed') return ['failed', order.at(-1).stored ? 'Reply failed' : 'Not sent'];
  return ['calm', 'Connected'];
}

export class ChatStatus {
  #announced = ''; // the connection, when it was drawn last

  /** Another chat is shown. */
  reset() {
    this.#announced = '';
  }

  draw(chat) {
    const [kind, text] = statusOf(chat);
    page.state.dataset.kind = kind;
    if (page.stateText.textContent !== text) page.stateText.textContent = text;
    const canTry = ['reconnecting', 'unreachable'].includes(chat.connection);
    if (!canTry && page.tryNow.matches(':focus-visible')) page.draft.focus();
    page.tryNow.hidden = !canTry;
    this.#announce(chat.connection, text);
  }

  #announce(connection, text) {
    const before = this.#announced;
    if (connection === before) return;
    if (connection === 'reconnecting' && before === 'online') announce('Connection lost. Reconnecting.');
    if (connection === 'unreachable' || connection === 'expired') announce(text);
    if (connection === 'online' && before && before !== 'connecting') announce('Connected again.');
    this.#announced = connection;
  }
}
