-- How a session ends, also one whose keys hold anything.

-- An event number that no session reaches: its sockets read a snapshot to fill the gap, and find the session gone.
local end_of_session = '9007199254740992'

-- What a field of `state` holds, nil also when `state` is no hash.
local function readable(field)
  local value = redis.pcall('HGET', state, field)
  return type(value) == 'string' and value or nil
end

-- No worker is needed for the session any longer, whatever it holds. Where `state` is damaged its address's line is not
-- known; the session leaves that after a while, as one whose claim is lost.
local function leave_lines()
  local line = readable('line')
  if line then
    redis.pcall('ZREM', line, session)
  end
  forget(session)
end

-- Deletes the session's own keys and those behind the named ones, and closes its sockets.
local function end_session()
  local found = exists()
  leave_lines()
  for i, key in ipairs(KEYS) do
    if i <= own_keys or i > named_keys then
      -- Not UNLINK: RedisJSON's documents are not safe to free in Redis' background thread.
      redis.call('DEL', key)
    end
  end
  if found then
    redis.call('PUBLISH', events, end_of_session .. ':\n')
  end
  return found
end
