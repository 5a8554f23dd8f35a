/** A chat as a file. */

import { loadMessages } from './client/api.js';
import { notice } from './page.js';
import { quoted } from './thinking.js';

/** The messages of a conversation, in the format of docs/protocol.md. */
export function messagesOf({ order }) {
  const messages = [];
  for (const { id, of, parent = null, text, timestamp, stored, reply } of order) {
    // A regeneration repeats its message.
    if (text !== null && stored && id === of) {
      messages.push({ id, source: 'human', msg: text, timestamp, reply_to: null, finish_reason: null, parent });
    }
    if (reply?.complete) {
      const { id: replyId, text: msg, timestamp: time, finishReason, reasoning, usage, rating, opinion } = reply;
      messages.push({
        id: replyId,
        source: 'bot',
        msg,
        timestamp: time,
        reply_to: text === null ? null : of,
        finish_reason: finishReason,
        parent: text === null ? null : of,
        ...(id === of ? {} : { request: id }),
        ...(reasoning ? { reasoning } : {}),
        ...(usage ? { usage } : {}),
        ...(rating ? { feedback: { rating, text: opinion } } : {}),
      });
    }
  }
  return messages;
}

/** A chat as JSON, which `POST /import` takes: the session's fields and messages in the format of docs/protocol.md. */
export function toJson({ name, begun, conversation }, messages) {
  const last = conversation.path.at(-1);
  const leaf = last?.reply?.complete ? last.reply.id : (last?.id ?? null);
  return `${JSON.stringify({ name, session_start: begun, leaf, messages }, null, 2)}\n`;
}

const ENDINGS = {
  stopped: '*Stopped.*',
  length: '*Ended at the length limit.*',
  content_filter: '*Cut off by the provider’s content filter.*',
};

/** A text as one line, escaped for Markdown. */
function plainLine(text) {
  return text.replace(/\s+/g, ' ').replace(/[\\`*_~[\]<>&#|:@]/g, '\\$&');
}

/** Closes a code block that is open at the end of a text, or it would swallow the following messages. */
function withClosedFence(text) {
  let open = null;
  for (const line of text.split('\n')) {
    const [, before, fence, after] = /^(\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)*)(`{3,}|~{3,})(.*)$/.exec(line) ?? [];
    if (!fence) continue;
    if (open === null) {
      if (fence[0] === '~' || !after.includes('`')) open = { indent: ' '.repeat(before.length), fence };
    } else if (!before.trim() && !after.trim() && fence[0] === open.fence[0] && fence.length >= open.fence.length) {
      open = null;
    }
  }
  return open ? `${text}\n${open.indent}${open.fence}` : text;
}

/** The messages with their replies directly after each, as the page shows them; with each its place, such as ` 1/2`. */
function byTurns(messages) {
  const replies = new Map(messages.map(({ id }) => [id, []]));
  const isReply = ({ reply_to: to }) => replies.has(to);
  for (const reply of messages.filter(isReply)) replies.get(reply.reply_to).push(reply);
  return messages
    .filter((message) => !isReply(message))
    .flatMap((message) => {
      const found = replies.get(message.id);
      const place = (at) => (found.length > 1 ? ` ${at + 1}/${found.length}` : '');
      return [[message, ''], ...found.map((reply, at) => [reply, place(at)])];
    });
}

/** A chat as Markdown, with the failed replies that the page knows of. */
export function toMarkdown({ name, begun, conversation }, messages, title) {
  const answered = new Set(messages.map(({ reply_to: to }) => to));
  const parts = [`# ${plainLine(title)}`, begun ? `Begun ${begun}` : ''];
  byTurns(messages).forEach(([{ id, source, msg, reasoning, timestamp, finish_reason: reason }, place], index) => {
    if (index) parts.push('---');
    parts.push(`**${source === 'human' ? plainLine(name) : 'Assistant'}**${place} (${timestamp})`);
    parts.push(reasoning ? quoted(reasoning) : '', withClosedFence(msg));
    parts.push(ENDINGS[reason] ?? '');
    if (!answered.has(id) && conversation.get(id)?.state === 'failed') parts.push('---', '*The reply failed.*');
  });
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

/** The server's messages; those that this page has loaded when the server cannot be asked. */
async function messagesToExport({ token, conversation, connection, hasEarlier }) {
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

/** Downloads a chat as a file; `format` is markdown or json. */
export async function exportChat(chat, title, format) {
  const messages = await messagesToExport(chat);
  if (format === 'json') download(title, 'json', 'application/json', toJson(chat, messages));
  else download(title, 'md', 'text/markdown', toMarkdown(chat, messages, title));
}

/** Downloads a text as a file, whose name comes from a title. */
function download(title, suffix, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = fileName(title, suffix);
  link.click();
  // The browser reads the blob after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file name from a title: letters and digits of any script. */
function fileName(title, suffix) {
  const words = title.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ['chat'];
  return `${words.join('-').slice(0, 60)}.${suffix}`;
}
