-- Asks for the end of the reply that is being generated, or waited for.
-- ARGV: session, channel on which workers hear of it, time to live in ms
if not exists() then
  return {'gone'}
end
local message = redis.call('LINDEX', pending, 0)
if not message then
  return {'nothing'}
end
redis.call('HSET', state, 'stop', message)
if redis.call('HDEL', state, 'hold') == 1 then
  -- No longer put off: it waits for a worker from now on.
  redis.call('ZADD', waiting, now(), ARGV[1])
end
touch(ARGV[3])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {'stopping', redis.call('EXISTS', lease)}
