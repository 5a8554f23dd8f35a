-- What the worker that holds the lease answers, and how it goes on.

-- Turns before a message that are searched for those of its prompt, besides the prompt's size.
local most_skipped = 1000

-- The message and up to `prompt_size` - 1 messages before it: each human message, then its reply, whenever that was
-- stored. A turn without the text of a reply is left out: the message failed, or the reply was stopped before its text.
local function prompt(message)
  local position, turn = string.match(redis.call('HGET', index, message), '^h:(%d+):(%d+)$')
  local gone, gone_turns = trimmed()
  local function stored(place)
    return redis.call('JSON.GET', document, '.messages[' .. place - gone .. ']')
  end
  local newest_first, size, stop = {stored(position)}, tonumber(prompt_size), turn - gone_turns
  local first, count = math.max(stop - size - most_skipped, 0), size
  while stop > first and #newest_first < size do
    local start = math.max(stop - count, first)
    local entries = redis.call('LRANGE', turns, start, stop - 1)
    for i = #entries, 1, -1 do
      local human, bot = string.match(entries[i], '^(%d+):(%d+)$')
      local reply = bot and stored(bot)
      if reply and not string.find(reply, '"msg":""', 1, true) and #newest_first < size then
        newest_first[#newest_first + 1] = reply
        newest_first[#newest_first + 1] = stored(human)
      end
    end
    stop, count = start, count * 2
  end
  local messages = {}
  for i = math.min(#newest_first, size), 1, -1 do
    messages[#messages + 1] = newest_first[i]
  end
  return messages
end

-- {'message', fence, id, attempts, loading since, stop?, now, messages of the prompt...}
local function assignment(message)
  local fields = redis.call('HMGET', state, 'fence', 'attempts', 'loading', 'stop')
  local result = {
    'message', fields[1], message, tonumber(fields[2] or 0), tonumber(fields[3] or 0),
    fields[4] == message and 1 or 0, now()
  }
  for _, json in ipairs(prompt(message)) do
    result[#result + 1] = json
  end
  return result
end

-- Whether the worker holds the lease, and has not settled the message yet.
local function may_settle()
  return owns_lease() and redis.call('LINDEX', pending, 0) == message
end

-- The message has its reply or has failed: returns the next one, or releases the lease.
local function settle()
  redis.call('LPOP', pending)
  redis.call('DEL', partial)
  local following = redis.call('LINDEX', pending, 0)
  redis.call('HDEL', state, 'attempts', 'hold', 'loading', 'stop')
  touch()
  if following and go_on == '1' then
    hold_lease()
    return assignment(following)
  end
  release_lease()
  if following then
    local time = now()
    schedule(time, time)
    return {'released'}
  end
  redis.call('HDEL', state, 'owed')
  forget(session)
  return {'idle'}
end
