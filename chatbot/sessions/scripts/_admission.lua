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
