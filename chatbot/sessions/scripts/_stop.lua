-- Stops the reply that is being generated, or that is due next; returns its request, or false when none is pending.
local function stop_reply()
  local request = redis.call('LINDEX', pending, 0)
  if not request then
    return false
  end
  redis.call('HSET', state, 'stop', request)
  if redis.call('HDEL', state, 'hold') == 1 then
    -- The scheduled retry is dropped: the session is ready for a worker.
    local time = now()
    redis.call('ZADD', waiting, time, session)
    redis.call('ZADD', ledger, time, session)
  end
  redis.call('PUBLISH', stop_channel, session)
  return request
end
