-- Puts a failed message back among the unanswered.
-- ARGV: session, id, time to live in ms, most pending messages, ms until somebody should look,
--       ms that messages may wait for a worker or 0, then the buckets of the rates
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
local refused, longest = admit(7, ARGV[4], ARGV[6])
if refused then
  return refused
end
redis.call('HDEL', failed, id)
redis.call('RPUSH', pending, id)
begin_wait(session, id)
note(session, ARGV[5])
touch(ARGV[3])
return {'accepted', attended() and 1 or 0, longest}
