-- The log of a session's messages. Positions count from the session's start, trimmed messages included: they stay valid.

-- How many messages, and how many turns, were dropped from the start of the log before this step.
local counts
local function trimmed()
  counts = counts or redis.call('HMGET', state, 'trimmed', 'trimmed_turns')
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

-- The position before which messages may be dropped: that of the oldest one whose request is unanswered.
local function oldest_needed(settled)
  local oldest = math.huge
  for _, request in ipairs(redis.call('LRANGE', pending, 0, -1)) do
    if request ~= settled then
      local position = string.match(redis.call('HGET', index, request) or '', '^h:(%d+)')
      oldest = math.min(oldest, tonumber(position) or math.huge)
    end
  end
  return oldest
end

-- Drops the oldest turns whose messages all stood before `position`; returns how many.
local function drop_turns(position)
  local _, gone_turns = trimmed()
  local branches, count = redis.call('HGET', state, 'branches'), 0
  while true do
    local newest = string.match(redis.call('LINDEX', turns, 0) or '', '%d+$')
    if not newest or tonumber(newest) >= position then
      break
    end
    redis.call('LPOP', turns)
    local turn = gone_turns + count
    if branches then
      redis.call('HDEL', index, '#' .. turn)
    end
    local stored = branches and redis.call('HGET', index, '^' .. turn)
    if stored then
      local request = string.match(stored, ':%d+:(.+)$') or ''
      redis.call('HDEL', index, '^' .. turn, request)
      redis.call('HDEL', failed, request)
      branches = string.gsub(branches, '^' .. turn .. ',?', '')
      redis.call('HSET', state, 'branches', branches)
    end
    count = count + 1
  end
  return count
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
  if not too_long(length) then
    return
  end
  local messages, needed = 0, oldest_needed(settled)
  while too_long(length - messages) and messages < 100 and gone + messages < needed do
    local id = string.sub(redis.call('JSON.GET', document, '.messages[' .. messages .. '].id'), 2, -2)
    redis.call('HDEL', index, id)
    redis.call('HDEL', failed, id)
    bytes = most_bytes > 0 and bytes - memory('.messages[' .. messages .. ']') or 0
    messages = messages + 1
  end
  if messages > 0 then
    redis.call('JSON.ARRTRIM', document, '.messages', messages, length - 1)
    redis.call('HSET', state, 'bytes', bytes)
    redis.call('HINCRBY', state, 'trimmed', messages)
    redis.call('HINCRBY', state, 'trimmed_turns', drop_turns(gone + messages))
    counts = nil
  end
end
