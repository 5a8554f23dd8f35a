-- For replies in progress, each with fourteen values behind the named arguments: stores and publishes new text, new
-- reasoning before it and new function calls behind it, reads the stop flag, and renews the lease where `renew` is 1. The
-- offsets are the bytes at which they belong; 0 replaces what is stored. `ARGV[at + 10]` counts the tokens generated for
-- the text. Returns an answer for each.
local values = 14

-- Stores new text at its offset behind a header, and publishes it. Returns whether all text before it was stored.
local function add(key, header, new, at, frame)
  if at == '0' then
    redis.call('SET', key, header .. new)
    -- Appending keeps the expiry.
    expire_with_session(key)
  elseif redis.call('STRLEN', key) ~= #header + at then
    return false
  else
    redis.call('APPEND', key, new)
  end
  publish(frame)
  return true
end

local function report(at)
  select_session(ARGV[at])
  fence = ARGV[at + 1]
  local message, renew, text, offset, frame = unpack(ARGV, at + 2, at + 6)
  local reasoning, reasoning_offset, reasoning_frame = unpack(ARGV, at + 7, at + 9)
  local stored = redis.call('HMGET', state, 'fence', 'stop')
  if stored[1] ~= fence then
    return rejection()
  end
  if renew == '1' then
    if not exists() then
      return 'ended'
    end
    hold_lease()
  end
  if stored[2] == message then
    return 'stop'
  end
  if reasoning ~= '' and not add(partial_reasoning, fence .. ':', reasoning, reasoning_offset, reasoning_frame) then
    return 'behind'
  end
  if text ~= '' then
    if not add(partial, '', text, offset, frame) then
      return 'behind'
    end
    redis.call('HSET', state, 'generated', ARGV[at + 10])
  end
  local calls, calls_offset, calls_frame = unpack(ARGV, at + 11, at + 13)
  if calls ~= '' and not add(partial_calls, fence .. ':', calls, calls_offset, calls_frame) then
    return 'behind'
  end
  return 'on'
end

local answers = {}
for at = named_arguments + 1, #ARGV, values do
  local done, answer = pcall(report, at)
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
end
return answers
