-- Lets go of a session whose message is to be tried again later; until then nobody claims it.
-- ARGV: session, fence, delay in ms, loading?, channel, frame or ''
local session, delay = ARGV[1], tonumber(ARGV[3])
if not owns(ARGV[2]) or not exists() then
  return 'lost'
end
local at = now() + delay
if redis.call('HGET', state, 'stop') == redis.call('LINDEX', pending, 0) then
  -- Stopped meanwhile: whoever claims next only has to record that.
  delay, at = 0, now()
end
redis.call('DEL', partial)
if delay > 0 then
  redis.call('HSET', state, 'hold', at)
  if ARGV[4] == '1' then
    redis.call('HSETNX', state, 'loading', now())
  else
    redis.call('HINCRBY', state, 'attempts', 1)
  end
end
if ARGV[6] ~= '' then
  publish(ARGV[5], ARGV[6])
end
let_go()
redis.call('ZADD', ledger, at, session)
redis.call('ZADD', waiting, at, session)
return 'postponed'
