-- Stops the reply that is being generated, or that is due next.
if not exists() then
  return {'gone'}
end
local message = redis.call('LINDEX', pending, 0)
if not message then
  return {'nothing'}
end
redis.call('HSET', state, 'stop', message)
if redis.call('HDEL', state, 'hold') == 1 then
  -- The scheduled retry is dropped: the session is ready for a worker.
  redis.call('ZADD', waiting, now(), session)
end
touch()
redis.call('PUBLISH', stop_channel, session)
return {'stopping', redis.call('EXISTS', lease)}
