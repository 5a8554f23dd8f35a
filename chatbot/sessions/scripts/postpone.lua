-- Releases the lease and schedules a retry in `delay_ms`, at once for 0. `frame` may be ''. The text so far stays
-- stored, and with `keep` also where the model thought before it, with these thoughts.
if not owns_lease() then
  return rejection()
end
local time = now()
local due = time + delay_ms
if redis.call('HGET', state, 'stop') == redis.call('LINDEX', pending, 0) then
  -- The user has stopped the reply: the next worker only has to record that.
  due = time
end
drop_thoughts(keep == '1')
if due > time then
  redis.call('HSET', state, 'hold', due)
  if loading == '1' then
    redis.call('HSETNX', state, 'loading', time)
  else
    redis.call('HINCRBY', state, 'attempts', 1)
  end
end
local attempt = redis.call('HGET', state, 'attempt')
if attempt then
  -- The worker records it; that of a worker that dies is recorded by the next one.
  redis.call('HSET', state, 'attempt', attempt .. ':ended')
end
if frame ~= '' then
  publish(frame)
end
release_lease(true)
schedule(due, due)
return 'postponed'
