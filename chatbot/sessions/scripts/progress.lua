-- For replies in progress: stores and publishes new reasoning, text and function calls, reads the stop flag, and renews the
-- lease where `renew` is 1. Returns an answer for each. Behind the named arguments stand, for each reply: its session, fence,
-- message, `renew`, the tokens generated for its text, and how many values follow. These are four for each part that is new:
-- `reasoning`, `text` or `calls`; what is new; the byte at which that belongs (0 replaces what is stored); and its frame.
local values = 6

-- Stores new text at its offset behind a header. Returns whether all text before it was stored.
local function add(key, header, new, at)
  if at == '0' then
    redis.call('SET', key, header .. new)
    -- Appending keeps the expiry.
    expire_with_session(key)
  elseif redis.call('STRLEN', key) ~= #header + at then
    return false
  else
    redis.call('APPEND', key, new)
  end
  return true
end

local function report(at, further)
  select_session(ARGV[at])
  fence = ARGV[at + 1]
  local message = ARGV[at + 2]
  local stored = redis.call('HMGET', state, 'fence', 'stop', 'events')
  if stored[1] ~= fence then
    return rejection()
  end
  if ARGV[at + 3] == '1' then
    if not exists() then
      return 'ended'
    end
    hold_lease()
  end
  local number = tonumber(stored[3] or 0)
  for place = at + values, at + values + further - 1, 4 do
    local kind, new, offset, frame = unpack(ARGV, place, place + 3)
    -- As `publish` does it, with one write for all that is stored in `state`.
    number = number + 1
    if kind == 'text' then
      if not add(partial, '', new, offset) then
        return 'behind'
      end
      redis.call('HSET', state, 'events', number, 'generated', ARGV[at + 4])
    else
      if not add(kind == 'calls' and partial_calls or partial_reasoning, fence .. ':', new, offset) then
        return 'behind'
      end
      redis.call('HSET', state, 'events', number)
    end
    publish_event(events, number .. ':\n' .. frame)
  end
  -- What was generated before the stop is part of the reply.
  return stored[2] == message and 'stop' or 'on'
end

local answers = {}
local at = named_arguments + 1
while at <= #ARGV do
  local further = tonumber(ARGV[at + 5])
  local done, answer = pcall(report, at, further)
  if not done then
    -- An error with a code is one of Redis as a whole, such as OOM. Any other is that of a damaged session, of which the
    -- next claim fails.
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    if string.match(text, '^%u%u%u+ ') and not string.match(text, '^WRONGTYPE ') then
      return redis.error_reply(text)
    end
    answer = 'lost'
  end
  answers[#answers + 1] = answer
  at = at + values + further
end
return answers
