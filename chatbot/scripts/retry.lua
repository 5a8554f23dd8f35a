-- Puts a failed message back among the unanswered.
-- ARGV: session, id, time to live in ms, most pending messages, ms until somebody should look
local session, id = ARGV[1], ARGV[2]
if not exists() then
  return {'gone'}
end
if redis.call('HEXISTS', failed, id) == 0 then
  if not redis.call('LPOS', pending, id) then
    return {'not_retryable'}
  end
  touch(ARGV[3])
  return {'known'}
end
if redis.call('LLEN', pending) >= tonumber(ARGV[4]) then
  return {'full'}
end
redis.call('HDEL', failed, id)
redis.call('RPUSH', pending, id)
redis.call('ZADD', ledger, 'NX', now() + ARGV[5], session)
touch(ARGV[3])
return {'accepted', attended() and 1 or 0}
