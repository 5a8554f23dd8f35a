-- Stops the reply to one request if it is being generated or due next; one that waits behind others gets `failure` as its
-- recorded failure, which `frame` publishes.
if not exists() then
  return {'gone'}
end
local place = redis.call('LPOS', pending, message)
if not place then
  return {'nothing'}
end
touch()
if place == 0 then
  stop_request(message, redis.call('LRANGE', pending, 0, -1))
  return {'stopping', redis.call('EXISTS', lease)}
end
redis.call('LREM', pending, 1, message)
redis.call('HSET', failed, message, failure)
settle_charge(message, 'released:0:0:0')
redis.call('HDEL', state, 'trace:' .. message, 'stop:' .. message)
expire_with_session(failed)
publish(frame)
return {'cancelled'}
