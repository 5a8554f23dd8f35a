-- Takes one token from each bucket and returns 0, or takes none and returns the ms until each has one. A bucket refills
-- evenly; its key holds the time at which it is full. The buckets' keys stand behind the named KEYS; behind the named
-- ARGV stand, for each, the ms in which it gains a token and how many it holds.
local function take_tokens()
  local time, wait, full = redis.call('TIME'), 0, {}
  time = time[1] * 1000 + time[2] / 1000
  for i = 1, #KEYS - named_keys do
    local interval, size = ARGV[named_arguments + 2 * i - 1], ARGV[named_arguments + 2 * i]
    full[i] = math.max(tonumber(redis.call('GET', KEYS[named_keys + i]) or 0), time) + interval
    wait = math.max(wait, full[i] - time - interval * size)
  end
  if wait > 0 then
    return math.ceil(wait)
  end
  for i, moment in ipairs(full) do
    redis.call('SET', KEYS[named_keys + i], string.format('%.3f', moment), 'PX', math.ceil(moment - time))
  end
  return 0
end

-- In ms, over all sessions.
local function queue_delay()
  local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
  return first[2] and math.max(now() - first[2], 0) or 0
end

-- The answer that refuses the message; or nil, and the queue delay.
local function refuse()
  local wait = take_tokens()
  if wait > 0 then
    return {'limited', wait}
  end
  if redis.call('LLEN', pending) >= tonumber(max_pending) then
    return {'full'}
  end
  local delay, allowed = queue_delay(), tonumber(max_queue_delay_ms)
  if allowed > 0 and delay > allowed then
    return {'behind', delay}
  end
  return nil, delay
end

-- Adds a message that is stored to those without a reply; the answer that says so.
local function await_reply(delay)
  redis.call('RPUSH', pending, message)
  local time = now()
  redis.call('ZADD', ledger, 'NX', time + check_after_ms, session)
  redis.call('ZADD', waiting, 'NX', time, session)
  touch()
  return {'accepted', attended() and 1 or 0, delay}
end
