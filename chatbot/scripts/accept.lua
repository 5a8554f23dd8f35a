-- Stores a human message and notes it in the ledger, in one step.
-- ARGV: session, id, message as JSON, time to live in ms, most pending messages, ms until somebody should look
local session, id, message, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if not exists() then
  return {'gone'}
end
local known = redis.call('HGET', index, id)
if known then
  local turn = string.match(known, '^h:%d+:(%d+)$')
  if not turn then
    return {'not_yours'}
  end
  touch(ttl)
  local reply = string.match(redis.call('LINDEX', turns, turn), ':(%d+)$')
  return {
    'known',
    reply and redis.call('JSON.GET', document, '.messages[' .. reply .. ']') or '',
    redis.call('HGET', failed, id) or ''
  }
end
if redis.call('LLEN', pending) >= tonumber(ARGV[5]) then
  return {'full'}
end
local length = redis.call('JSON.ARRAPPEND', document, '.messages', message)
local turn = redis.call('RPUSH', turns, length - 1) - 1
redis.call('HSET', index, id, 'h:' .. (length - 1) .. ':' .. turn)
redis.call('RPUSH', pending, id)
redis.call('ZADD', ledger, 'NX', now() + ARGV[6], session)
touch(ttl)
return {'accepted', attended() and 1 or 0}
