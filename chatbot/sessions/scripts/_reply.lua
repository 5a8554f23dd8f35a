-- What the worker that holds the lease answers, and how it goes on.

-- The message and up to `prompt_size` - 1 messages before it: each human message, then its reply, whenever that was
-- stored.
local function prompt(message)
  local position, turn = string.match(redis.call('HGET', index, message), '^h:(%d+):(%d+)$')
  local gone, gone_turns = trimmed()
  turn = turn - gone_turns
  local positions = {}
  if turn > 0 then
    for _, entry in ipairs(redis.call('LRANGE', turns, math.max(turn - prompt_size, 0), turn - 1)) do
      local human, bot = string.match(entry, '^(%d+):?(%d*)$')
      positions[#positions + 1] = human
      if bot ~= '' then
        positions[#positions + 1] = bot
      end
    end
  end
  positions[#positions + 1] = position
  local messages = {}
  for i = math.max(1, #positions - prompt_size + 1), #positions do
    messages[#messages + 1] = redis.call('JSON.GET', document, '.messages[' .. positions[i] - gone .. ']')
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
  redis.call('HDEL', state, 'attempts', 'hold', 'loading', 'stop')
  touch()
  local following = redis.call('LINDEX', pending, 0)
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
  forget(session)
  return {'idle'}
end
