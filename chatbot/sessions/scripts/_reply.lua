-- What the worker that holds the lease answers, and how it goes on.

-- Turns before a message that are searched for those of its prompt, besides the prompt's size.
local most_skipped = 1000
-- Turns that are read at once where the path has branches.
local step = 8

-- Calls `visit` with the positions of the human message and the reply of each turn on the path to `turn`, the nearest
-- first, until that answers false. A position is nil without a reply, or when the message was dropped, as all before are.
-- Without branches the path is the log.
local function walk(turn, branches, visit)
  local gone, gone_turns = trimmed()
  local left, count = prompt_size + most_skipped, branches and step or tonumber(prompt_size)
  local at = branches and branch(turn) or turn - 1
  while at >= gone_turns and left > 0 do
    local from = math.max(at - count + 1, gone_turns)
    local entries = redis.call('LRANGE', turns, from - gone_turns, at - gone_turns)
    local fields = {}
    for number = branches and at or 0, branches and from or 1, -1 do
      fields[#fields + 1] = '^' .. number
    end
    local stored = branches and redis.call('HMGET', index, unpack(fields)) or {}
    for i = #entries, 1, -1 do
      local human, bot = string.match(entries[i], '^(%d+):?(%d*)$')
      human, bot, left = tonumber(human), tonumber(bot), left - 1
      local known = human >= gone
      if not visit(known and human or nil, bot and bot >= gone and bot or nil) or not known then
        return
      end
      local parent = stored[#entries - i + 1]
      if parent then
        at = tonumber(string.match(parent, '^%-?%d+'))
        break
      end
      at = at - 1
    end
    count = branches and step or math.min(count * 2, left)
  end
end

-- The message of a request and up to `prompt_size` - 1 messages of the path before it: each human message, then its
-- reply, whenever that was stored.
local function prompt(request)
  local position, turn = string.match(redis.call('HGET', index, request), '^h:(%d+):(%d+)$')
  local gone, _, branches = trimmed()
  local function stored(place)
    return redis.call('JSON.GET', document, '.messages[' .. place - gone .. ']')
  end
  local newest_first, size = {stored(position)}, tonumber(prompt_size)
  if size > 1 then
    walk(tonumber(turn), branches, function(human, bot)
      newest_first[#newest_first + 1] = bot and stored(bot)
      newest_first[#newest_first + 1] = human and stored(human)
      return #newest_first < size
    end)
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
