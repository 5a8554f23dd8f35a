-- Takes the lease of a session with an unanswered message, unless another worker holds it or a retry is scheduled.
local message = exists() and redis.call('LINDEX', pending, 0)
if not message then
  forget(session)
  return {'idle'}
end
if attended() then
  return {'taken'}
end
-- Higher than all before, and a time: after a failover to a Redis that lacks the latest writes, a mere counter would
-- give out a number that another worker has already.
local time = redis.call('TIME')
local fence = math.max(redis.call('HGET', state, 'fence') or 0, time[1] * 1000000 + time[2]) + 1
redis.call('HSET', state, 'fence', string.format('%.0f', fence), 'looks', 0)
redis.call('PEXPIRE', state, redis.call('PTTL', document))
redis.call('DEL', partial)
hold_lease()
return assignment(message)
