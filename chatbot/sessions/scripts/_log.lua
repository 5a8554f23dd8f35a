-- The log of a session's messages. Positions count from the session's start, trimmed messages included: they stay valid.

-- How many messages, and how many turns, were dropped from the start of the log.
local function trimmed()
  local counts = redis.call('HMGET', state, 'trimmed', 'trimmed_turns')
  return tonumber(counts[1] or 0), tonumber(counts[2] or 0)
end

-- Bytes of memory that a part of the document takes.
local function memory(path)
  return redis.call('JSON.DEBUG', 'MEMORY', document, path)
end

-- Bytes of all messages, after one was added. `length` counts them. `bytes` in `state` is the sum up to the position
-- `counted`. When that is not the message before (a version without this count stored some), all are measured: 1 ms for
-- 20 000. A step that changes stored messages in another way deletes `counted`.
local function add_bytes(gone, length)
  local stored = redis.call('HMGET', state, 'bytes', 'counted')
  local known = tonumber(stored[2] or -1) == gone + length - 1
  local bytes = known and stored[1] + memory('.messages[-1]') or memory('.messages')
  redis.call('HSET', state, 'bytes', bytes, 'counted', gone + length)
  return bytes
end

-- Drops the oldest messages down to `max_history` messages and `max_history_bytes`, 0 for no limit, but neither an
-- unanswered one nor any behind it, nor for their bytes the last two. `length` counts the messages after one was added,
-- `gone` those dropped earlier; `settled` is a message that is answered in this step. Drops a hundred at most, so that
-- no step takes long.
local function trim(gone, length, settled)
  local most, most_bytes, bytes = tonumber(max_history), tonumber(max_history_bytes), 0
  if most_bytes > 0 then
    bytes = add_bytes(gone, length)
  end
  local function too_long(left)
    return most > 0 and left > most or most_bytes > 0 and bytes > most_bytes and left > 2
  end
  local messages, humans = 0, 0
  while too_long(length - messages) and messages < 100 do
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
    bytes = most_bytes > 0 and bytes - memory('.messages[' .. messages .. ']') or 0
    messages = messages + 1
  end
  if messages > 0 then
    redis.call('JSON.ARRTRIM', document, '.messages', messages, length - 1)
    redis.call('HSET', state, 'bytes', bytes)
    redis.call('HINCRBY', state, 'trimmed', messages)
    redis.call('HINCRBY', state, 'trimmed_turns', humans)
  end
end
