-- Takes the lease of a session with an unanswered message, unless another worker holds it or a retry is scheduled.
local message = exists() and redis.call('LINDEX', pending, 0)
if not message then
  forget(session)
  return {'idle'}
end
if attended() then
  return {'taken'}
end
-- Higher than all before, and a time. A new master may lack the latest writes: from it a counter would get a number that
-- another worker has already.
local time = redis.call('TIME')
local last_fence = redis.call('HGET', state, 'fence')
local fence = math.max(last_fence or 0, time[1] * 1000000 + time[2]) + 1
local before = redis.call('HMGET', state, 'line', 'owed')
if before[1] then
  redis.call('ZREM', before[1], session)
end
local ready = not before[2] and redis.call('ZSCORE', waiting, session)
-- What is claimed once is owed: should this worker die, the session goes ahead of new ones.
redis.call('HSET', state, 'fence', string.format('%.0f', fence), 'looks', 0, 'sent', 0, 'owed', 1)
expire_with_session(state)
local work = assignment(message, last_fence)
-- The reply goes on from what is stored of it. One before which the model thought begins again, unless it has events.
if drop_thoughts(work.asked) then
  work[partial_at] = ''
end
hold_lease()
local at = now()
local claims, ms, others = pace_sums(at)
if others + ready_sessions() > 0 then
  redis.call('HSET', pace, 'claims', claims + 1, 'ms', ms, 'at', at)
  if ready then
    redis.call('HSET', pace, 'ready', ready)
  end
end
return work
