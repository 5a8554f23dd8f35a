/** A chat as a file. */

/** What the page holds of a conversation, in the words of the protocol. */
export function messagesOf({ order }) {
  const messages = [];
  for (const { id, text, timestamp, stored, reply } of order) {
    if (text !== null && stored) {
      messages.push({ id, source: 'human', msg: text, timestamp, reply_to: null, finish_reason: null });
    }
    if (reply?.whole) {
      const { id: replyId, text: msg, timestamp: time, finishReason } = reply;
      messages.push({
        id: replyId,
        source: 'bot',
        msg,
        timestamp: time,
        reply_to: text === null ? null : id,
        finish_reason: finishReason,
      });
    }
  }
  return messages;
}

/** The name, when it began, and the messages as the protocol has them, as JSON. */
export function toJson({ name, begun }, messages) {
  return `${JSON.stringify({ name, session_start: begun, messages }, null, 2)}\n`;
}

/** The same to be read, as Markdown. */
export function toMarkdown({ name, begun }, messages, title) {
  const parts = [`# ${title}`, begun ? `Begun ${begun}` : ''];
  messages.forEach(({ source, msg, timestamp, finish_reason: reason }, index) => {
    const ending = reason === 'stopped' ? ', stopped' : reason === 'length' ? ', cut at the length limit' : '';
    if (index) parts.push('---');
    parts.push(`**${source === 'human' ? name : 'Assistant'}** (${timestamp}${ending})`, msg);
  });
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

/** Hands the browser a file to keep. */
export function download(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  // The browser reads it a little later.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file's name from a title: letters and digits of any script. */
export function fileName(title, suffix) {
  const words = title.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ['chat'];
  return `${words.join('-').slice(0, 60)}.${suffix}`;
}
