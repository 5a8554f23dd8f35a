-- A stop is for one request. `stop:<request>` marks it until it is settled, wherever it waits, and holds the newest request
-- of that moment. `stop` names the request that is due next if that one is marked: workers read it, and a version without
-- marks knows it alone.

-- Marks a request of `requests`, all that are pending. Those before it are marked already.
local function stop_request(request, requests)
  redis.call('HSET', state, 'stop:' .. request, requests[#requests], 'stop', requests[1])
  if redis.call('HDEL', state, 'hold') == 1 then
    -- The scheduled retry is dropped: the session is ready for a worker.
    local time = now()
    redis.call('ZADD', waiting, time, session)
    redis.call('ZADD', ledger, time, session)
  end
  redis.call('PUBLISH', stop_channel, session .. ':' .. requests[1])
end

-- Stops the first pending request that is not stopped yet: the reply that is being generated, or is due next. Returns
-- whether one is pending. With `repeatable` it is the last stop again unless a request was accepted since.
local function stop_reply(repeatable)
  local requests = redis.call('LRANGE', pending, 0, -1)
  local newest = requests[#requests]
  if not newest then
    return false
  end
  local found = newest
  for i, request in ipairs(requests) do
    local mark = redis.call('HGET', state, 'stop:' .. request)
    local stopped = mark or i == 1 and redis.call('HGET', state, 'stop') == request
    if not stopped or repeatable and mark == newest then
      found = request
      break
    end
  end
  stop_request(found, requests)
  return true
end
