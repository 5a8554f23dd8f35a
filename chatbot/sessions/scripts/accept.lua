-- Stores a human message and notes it in the ledger, in one step.
-- ARGV: session, id, message as JSON, time to live in ms, most pending messages, ms until somebody should look,
--       most messages in the log or 0, ms that messages may wait for a worker or 0, then the buckets of the rates
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
  local gone, gone_turns = trimmed()
  local reply = string.match(redis.call('LINDEX', turns, turn - gone_turns), ':(%d+)$')
  return {
    'known',
    reply and redis.call('JSON.GET', document, '.messages[' .. reply - gone .. ']') or '',
    redis.call('HGET', failed, id) or ''
  }
end
local refused, longest = admit(9, ARGV[5], ARGV[8])
if refused then
  return refused
end
local gone, gone_turns = trimmed()
local length = redis.call('JSON.ARRAPPEND', document, '.messages', message)
local turn = redis.call('RPUSH', turns, gone + length - 1) + gone_turns - 1
redis.call('HSET', index, id, 'h:' .. (gone + length - 1) .. ':' .. turn)
redis.call('RPUSH', pending, id)
begin_wait(session, id)
note(session, ARGV[6])
trim(tonumber(ARGV[7]), length)
touch(ttl)
return {'accepted', attended() and 1 or 0, longest}
