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

-- Calls `visit` for each turn on the path before `turn`, the nearest first, until it returns false. `visit` gets the positions
-- of the human message and of the reply, if any. About `size` messages are wanted. Without branches the path is the log.
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

-- Of a prompt: turns at least, turns at most, and the stride of the first.
local function window_sizes(all)
  local least = math.floor((all and longest_path or prompt_size) / 2)
  return least, all and least or 2 * least, least + 1
end

-- The turns before a request whose messages its prompt holds, the newest first: each its human message and its reply as
-- JSON, whenever that was stored. A turn whose reply has no text and no items is left out: the message failed, or the
-- reply was stopped before its text. Where a message was dropped the path begins; of that turn there may be the reply
-- alone.
--
-- The first of them stays the same for many requests, so that the model server finds the beginning of the prompt in its
-- cache. It is a turn whose depth is a multiple of a stride: the oldest such turn with which there are at most `most`
-- turns. So the prompt grows to `most` turns and is then cut to half of them. With `all` nothing is cut.
local function window(turn, all)
  local gone = trimmed()
  local least, most, stride = window_sizes(all)
  local found, at, size = {}, depth(turn), 0
  if most == 0 then
    return {}
  end
  local function stored(place)
    return redis.call('JSON.GET', document, '.messages[' .. place - gone .. ']')
  end
  walk(turn, 2 * most, function(human, bot)
    at = at - 1
    local reply = tonumber(bot) and tonumber(bot) >= gone and stored(bot)
    local known = tonumber(human) >= gone
    if reply and (not string.find(reply, '"msg":""', 1, true) or string.find(reply, '"items":[', 1, true)) then
      found[#found + 1] = {known and stored(human) or '', reply}
    end
    size = at % stride == 0 and #found or size
    return known and #found < most
  end)
  -- Of a history that was trimmed to less, all of it.
  for i = #found, ((all or size < least) and #found or size) + 1, -1 do
    found[i] = nil
  end
  return found
end

-- The messages of `window` as one JSON text without brackets, the oldest first: '' for none. nil unless they are one run of
-- the log, in which each reply follows its message. Reading a run takes a tenth of the time.
local function run_of_log(turn, all)
  local gone, gone_turns = trimmed()
  local least, most, stride = window_sizes(all)
  local first = math.max(turn - most, gone_turns)
  if has_branches() or first > turn then
    return nil
  elseif first == turn then
    return ''
  end
  local entries = redis.call('LRANGE', turns, first - gone_turns, turn - 1 - gone_turns)
  local start = tonumber(string.match(entries[1] or '', '^%d+'))
  if not start or start < gone or #entries ~= turn - first then
    return nil
  end
  for i, entry in ipairs(entries) do
    local human = start + 2 * (i - 1)
    if entry ~= human .. ':' .. human + 1 then
      return nil
    end
  end
  -- The oldest turn from `first` on whose depth is a multiple of the stride.
  local cut = math.ceil(first / stride) * stride
  local kept = (all or turn - cut < least) and first or cut
  local function read(from, to)
    local place = start - gone - 2 * first
    local json = redis.call('JSON.GET', document, '$.messages[' .. place + 2 * from .. ':' .. place + 2 * to .. ']')
    return not string.find(json, '"msg":""', 1, true) and string.sub(json, 2, -2) or nil
  end
  -- Turns without a text do not count, so those before matter as well.
  return (kept == first or read(first, kept)) and read(kept, turn)
end

-- The messages of a request's prompt as JSON, the oldest first, several in a text, separated by commas; the request's own is
-- the last text.
local function prompt(request)
  local position, turn = string.match(redis.call('HGET', index, request), '^h:(%d+):(%d+)$')
  turn = tonumber(turn)
  local own = redis.call('JSON.GET', document, '.messages[' .. position - trimmed() .. ']')
  local all = string.find(own, '"options":{', 1, true)
  local messages, run = {}, run_of_log(turn, all)
  if run then
    return run == '' and {own} or {run, own}
  end
  local found = window(turn, all)
  for i = #found, 1, -1 do
    for _, json in ipairs(found[i]) do
      messages[#messages + 1] = json ~= '' and json or nil
    end
  end
  messages[#messages + 1] = own
  return messages
end

-- Where an assignment has the text of an attempt that did not end.
local partial_at = 8

-- Stores that the attempt named by the argument `attempt` begins: its id, its start and its number. Returns what is stored of
-- the attempt before, and behind it when the session became ready again; '' without one.
local function begin_attempt(before, time)
  if attempt == '' then
    return ''
  end
  local number = before and tonumber(string.match(before, '^%x+:%d+:(%d+)')) or 0
  redis.call('HSET', state, 'attempt', attempt .. ':' .. time .. ':' .. number + 1)
  return before and before .. ' ' .. (redis.call('ZSCORE', waiting, session) or '') or ''
end

-- {'message', fence, id, attempts, loading since, stop?, now, text so far, tokens generated for it, its trace, the attempt
-- before, reasoning so far, calls so far, messages of the prompt...}. `asked` says whether the request has options: then its
-- events are append-only, so what was published under the fence `before` stays.
local function assignment(message, before)
  local fields = redis.call('HMGET', state, 'fence', 'attempts', 'loading', 'stop', 'generated', 'attempt',
    'trace:' .. message, 'stop:' .. message)
  local time, stopped = now(), fields[4] == message
  if fields[8] and not stopped then
    -- It was stopped while it waited behind others.
    redis.call('HSET', state, 'stop', message)
    stopped = true
  end
  local result = {
    'message', fields[1], message, tonumber(fields[2] or 0), tonumber(fields[3] or 0),
    stopped and 1 or 0, time, redis.call('GET', partial) or '', tonumber(fields[5] or 0),
    fields[7] or '', fields[7] and begin_attempt(fields[6], time) or ''
  }
  local messages = prompt(message)
  result.asked = string.find(messages[#messages], '"options":{', 1, true) ~= nil
  for _, key in ipairs({partial_reasoning, partial_calls}) do
    result[#result + 1] = result.asked and before and carry_over(key, before) or ''
  end
  for _, json in ipairs(messages) do
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
  redis.call('DEL', partial, partial_reasoning, partial_calls)
  settle_charge(message, usage)
  local following = redis.call('LINDEX', pending, 0)
  redis.call('HDEL', state, 'attempts', 'hold', 'loading', 'stop', 'generated', 'attempt', 'trace:' .. message,
    'stop:' .. message)
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
