-- How a session ends, also one whose keys hold anything.

-- An event number that no session reaches: its sockets read a snapshot to fill the gap, and find the session gone.
local end_of_session = '9007199254740992'

-- What a field of `state` holds, nil also when `state` is not a hash.
local function readable_field(field)
  local value = redis.pcall('HGET', state, field)
  return type(value) == 'string' and value or nil
end

-- No worker is needed for the session any longer, whatever it holds. Where `state` is damaged its address's line is not
-- known; the session leaves that after a while, as one whose claim is lost.
local function leave_lines()
  local line = readable_field('line')
  if line then
    redis.pcall('ZREM', line, session)
  end
  forget(session)
end

-- Charges what the requests without a reply have used: that in progress its prompt and the text so far, others nothing.
local function charge_pending()
  local found = redis.pcall('HGETALL', charges)
  for i = 1, found.err and 0 or #found, 2 do
    local used = 'released:0:0:0'
    if redis.call('EXISTS', lease) == 1 and redis.pcall('LINDEX', pending, 0) == found[i] then
      local written = redis.pcall('STRLEN', partial)
      used = 'ended:' .. string.match(found[i + 1], '(%d+):%d+$') .. ':'
        .. (type(written) == 'number' and math.ceil(written / 4) or 0) .. ':0'
    end
    redis.call('HSET', outbox, found[i + 1], used)
  end
end

-- Deletes the session's own keys and those behind the named ones, and closes its sockets.
local function end_session()
  local found = exists()
  leave_lines()
  charge_pending()
  for i, key in ipairs(KEYS) do
    if i <= own_keys or i > named_keys then
      -- Not UNLINK: RedisJSON's documents are not safe to free in Redis' background thread.
      redis.call('DEL', key)
    end
  end
  if found then
    publish_event(events, end_of_session .. ':\n')
  end
  return found
end
