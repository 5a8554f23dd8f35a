/** What the page says about the state of a turn. Pure functions of a Turn. */

const FAILURES = {
  model_error: 'The reply failed.',
  unavailable: 'Not sent: the server is not available.',
  rate_limited: 'Not sent: too many messages in a short time.',
  too_many_pending: 'Not sent: earlier messages still wait for a reply.',
  message_too_long: 'Not sent: the message is too long.',
  empty_message: 'Not sent: the message is empty.',
  expired: 'The chat expired before this was answered.',
};
const EDITABLE = new Set(['message_too_long', 'empty_message', 'invalid_id', 'session_damaged']);

/** What helps, where the server's message does not say it. */
const REMEDIES = { context_length_exceeded: 'Make it shorter, and send it again.' };

/** Whether a message that failed with this error can be sent again as it is. */
export const isSendable = ({ code, until }) => code !== 'expired' && !EDITABLE.has(code) && !secondsUntil(until);

const ENDINGS = {
  length: 'Ended at the length limit',
  content_filter: 'Cut off by the provider’s content filter',
  stopped: 'Stopped',
};

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });

function seconds(count) {
  return count === 1 ? '1 second' : `${count} seconds`;
}

function secondsUntil(time) {
  return Math.max(0, Math.ceil(((time ?? 0) - Date.now()) / 1000));
}

/** What went wrong, and the button for it: {text, action, label, wait}, `wait` in seconds until it is enabled. */
export function failureOf({ state, error, stored }) {
  if (state !== 'failed') return null;
  const wait = secondsUntil(error.until);
  let text = FAILURES[error.code] ?? (error.message || 'Something went wrong.');
  if (stored && error.code !== 'expired') {
    const why = error.code === 'model_error' ? error.message : '';
    text = [FAILURES.model_error, why, REMEDIES[error.reason]].filter(Boolean).join(' ');
  }
  if (error.code === 'message_too_long') text += ` ${error.message}.`;
  if (!stored && error.code === 'expired') text = 'Not sent: the chat has expired. A new chat begins with this text.';
  if (wait) text += ` You can try again in ${seconds(wait)}.`;
  if (error.code === 'expired') return { text, wait, action: '', label: '' };
  if (stored && error.reason) return { text, wait, action: 'editSaid', label: 'Edit' };
  if (stored) return { text, wait, action: 'retry', label: 'Retry' };
  if (EDITABLE.has(error.code)) return { text, wait, action: 'edit', label: 'Edit' };
  return { text, wait, action: 'sendAgain', label: 'Send again' };
}

/** The text beside the animated dots, or null when they are not shown. */
export function progressOf({ state, status, reply, stored }) {
  if (state !== 'waiting' || !stored) return null;
  if (status?.state === 'loading') return 'Loading the model';
  if (status?.state === 'retrying') {
    const left = secondsUntil(status.until);
    return `The model is not available. Trying again${left ? ` in ${seconds(left)}` : ''}`;
  }
  return reply?.text ? null : '';
}

/** The note below a reply that ended early, or has no text. */
export function endingOf({ finishReason, text }) {
  return ENDINGS[finishReason] ?? (text ? '' : 'The model returned no text');
}

function timeOf(timestamp) {
  const time = new Date(timestamp ?? NaN);
  return Number.isNaN(time.getTime()) ? '' : clock.format(time);
}

/** The note below a message: its time once it is stored. */
export function noteOf({ state, stored, held, timestamp }) {
  if (state === 'sending') return held ? 'Waiting for the connection' : 'Sending';
  return stored ? timeOf(timestamp) : '';
}
