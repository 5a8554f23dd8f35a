-- Takes the lease of a session that has unanswered messages and that nobody speaks for.
-- ARGV: session, lease in ms, grace in ms, most messages in a prompt, channel of the owner
local session = ARGV[1]
local message = exists() and redis.call('LINDEX', pending, 0)
if not message then
  forget(session)
  return {'idle'}
end
if attended() then
  return {'taken'}
end
-- Higher than all before, and a time: a Redis that took the place of a failed one, and knows less than that did, would
-- else give out a number again that somebody holds already.
local time = redis.call('TIME')
local fence = math.max(redis.call('HGET', state, 'fence') or 0, time[1] * 1000000 + time[2]) + 1
redis.call('HSET', state, 'fence', string.format('%.0f', fence))
redis.call('HSET', state, 'looks', 0)
redis.call('PEXPIRE', state, redis.call('PTTL', document))
redis.call('DEL', partial)
hold_lease(session, ARGV[2], ARGV[3], ARGV[5])
return assignment(message, tonumber(ARGV[4]))
