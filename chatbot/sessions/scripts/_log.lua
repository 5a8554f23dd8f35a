-- The log of a session's messages. Positions count from the session's start, trimmed messages included: they stay valid.

-- How many messages, and how many turns, were dropped from the start of the log.
local function trimmed()
  local counts = redis.call('HMGET', state, 'trimmed', 'trimmed_turns')
  return tonumber(counts[1] or 0), tonumber(counts[2] or 0)
end

-- Drops the oldest messages down to `max_history`, 0 for no limit, but neither an unanswered one nor any behind it.
-- `length` counts the messages stored now; `settled` is a message that is answered in this step. Drops a hundred at
-- most, so that no step takes long.
local function trim(length, settled)
  local most = tonumber(max_history)
  if most == 0 or length <= most then
    return
  end
  local messages, humans = 0, 0
  while length - messages > most and messages < 100 do
    local id = string.sub(redis.call('JSON.GET', document, '.messages[' .. messages .. '].id'), 2, -2)
    if string.sub(redis.call('HGET', index, id) or '', 1, 1) == 'h' then
      if id ~= settled and redis.call('LPOS', pending, id) then
        break
      end
      redis.call('LPOP', turns)
      redis.call('HDEL', failed, id)
      humans = humans + 1
    end
    redis.call('HDEL', index, id)
    messages = messages + 1
  end
  if messages > 0 then
    redis.call('JSON.ARRTRIM', document, '.messages', messages, length - 1)
    redis.call('HINCRBY', state, 'trimmed', messages)
    redis.call('HINCRBY', state, 'trimmed_turns', humans)
  end
end
