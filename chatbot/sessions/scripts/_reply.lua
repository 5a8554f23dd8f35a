-- What the worker that holds the lease answers, and how it goes on.

-- Turns before a message that are searched for those of its prompt, besides the prompt's size.
local most_skipped = 1000
-- Turns that are read at once from a path with branches: at first, and at most.
local step, longest_step = 8, 64
-- Messages of the path that a request with options gets: its client decides what the conversation is.
local longest_path = 2000

-- The parents of the turns from `last` down to `first`, false where a turn follows the one before it in the log.
local function parents(last, first)
  local fields = {}
  for turn = last, first, -1 do
    fields[#fields + 1] = '^' .. turn
  end
  local found = redis.call('HMGET', index, unpack(fields))
  for i, stored in ipairs(found) do
    found[i] = stored and tonumber(string.match(stored, '^%-?%d+'))
  end
  return found
end

-- Calls `visit` with the positions of the human message and the reply, if any, of each turn on the path before `turn`, the
-- nearest first, until that answers false; about `size` messages are wanted. Without branches the path is the log.
local function walk(turn, size, visit)
  local _, gone_turns = trimmed()
  local branched = has_branches()
  local left, count = size + most_skipped, branched and step or size
  local at = branched and branch(turn) or turn - 1
  while at >= gone_turns and left > 0 do
    local from = math.max(at - math.min(count, left) + 1, gone_turns)
    local entries = redis.call('LRANGE', turns, from - gone_turns, at - gone_turns)
    local jumps = branched and parents(at, from) or {}
    count = branched and math.min(2 * count, longest_step) or 2 * count
    for i = #entries, 1, -1 do
      if not visit(string.match(entries[i], '^(%d+):?(%d*)$')) then
        return
      end
      left = left - 1
      local parent = jumps[#entries - i + 1]
      if parent then
        at, count = parent, step
        break
      end
      at = at - 1
    end
  end
end

-- The message of a request and up to `prompt_size` - 1 messages of the path before it: each human message, then its
-- reply, whenever that was stored. A turn whose reply has no text and no items is left out: the message failed, or the
-- reply was stopped before its text. Where a message was dropped the path begins.
local function prompt(request)
  local position, turn = string.match(redis.call('HGET', index, request), '^h:(%d+):(%d+)$')
  local gone = trimmed()
  local function stored(place)
    return redis.call('JSON.GET', document, '.messages[' .. place - gone .. ']')
  end
  local newest_first, size = {stored(position)}, tonumber(prompt_size)
  if string.find(newest_first[1], '"options":{', 1, true) then
    size = longest_path
  end
  walk(tonumber(turn), size, function(human, bot)
    local reply = tonumber(bot) and tonumber(bot) >= gone and #newest_first < size and stored(bot)
    local known = tonumber(human) >= gone
    local said = reply and (not string.find(reply, '"msg":""', 1, true) or string.find(reply, '"items":[', 1, true))
    if said then
      newest_first[#newest_first + 1] = reply
      newest_first[#newest_first + 1] = known and stored(human) or nil
    end
    return known and #newest_first < size
  end)
  local messages = {}
  for i = math.min(#newest_first, size), 1, -1 do
    messages[#messages + 1] = newest_first[i]
  end
  return messages
end

-- Where an assignment has the text of an attempt that did not end.
local partial_at = 8

-- {'message', fence, id, attempts, loading since, stop?, now, text so far, messages of the prompt...}; `asked` says whether
-- the request has options: its events are append-only, so text that was published stays.
local function assignment(message)
  local fields = redis.call('HMGET', state, 'fence', 'attempts', 'loading', 'stop')
  local result = {
    'message', fields[1], message, tonumber(fields[2] or 0), tonumber(fields[3] or 0),
    fields[4] == message and 1 or 0, now(), redis.call('GET', partial) or ''
  }
  for _, json in ipairs(prompt(message)) do
    result[#result + 1] = json
  end
  result.asked = string.find(result[#result], '"options":{', 1, true) ~= nil
  return result
end

-- Whether the worker holds the lease, and has not settled the message yet.
local function may_settle()
  return owns_lease() and redis.call('LINDEX', pending, 0) == message
end

-- The message has its reply or has failed: returns the next one, or releases the lease.
local function settle()
  redis.call('LPOP', pending)
  redis.call('DEL', partial, partial_reasoning)
  settle_charge(message, usage)
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
