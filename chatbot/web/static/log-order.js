/** The order of turns on the page, which follows the server's log. Pure functions. */

/**
 * The order once the newest page of the log is known. `logged` are its turns. Other turns that are older stand before
 * them: those for which `wasStored`, and complete ones. Turns that are not in the log yet go to the end, failed ones keep
 * their place.
 */
export function withNewest(order, logged, wasStored) {
  const inLog = new Set(logged);
  const lastLogged = order.findLastIndex((turn) => inLog.has(turn));
  const isOlder = (turn, index) => index < lastLogged && (turn.state === 'done' || wasStored(turn)) && !inLog.has(turn);
  const result = [...order.filter(isOlder), ...logged];
  order.forEach((turn, index) => {
    if (inLog.has(turn) || isOlder(turn, index)) return;
    const before = order[index - 1];
    if (turn.state === 'failed' && before && index < lastLogged) {
      result.splice(result.indexOf(before) + 1, 0, turn);
    } else result.push(turn);
  });
  return result;
}

/** The order once an older page of the log is known. `logged` are its turns. */
export function withOlder(order, logged) {
  const inPage = new Set(logged);
  return [...logged, ...order.filter((turn) => !inPage.has(turn))];
}

/** The place behind all turns whose messages the server has stored. */
export function afterStored(order) {
  return order.findLastIndex((turn) => turn.stored) + 1;
}

/** Turns that have failed: the server answers in order, and replied to a message after theirs. */
export function skipped(order) {
  const lastDone = order.findLastIndex((turn) => turn.state === 'done' && turn.text !== null);
  return order.slice(0, Math.max(0, lastDone)).filter((turn) => turn.state === 'waiting' && !turn.mentioned);
}
