-- Makes a failed message unanswered again.
if not exists() then
  return {'gone'}
end
if redis.call('HEXISTS', failed, message) == 0 then
  if not redis.call('LPOS', pending, message) then
    return {redis.call('HEXISTS', index, message) == 1 and 'not_retryable' or 'nothing_to_retry'}
  end
  touch()
  return {'known'}
end
local refusal, wait = refuse()
if refusal then
  return refusal
end
redis.call('HDEL', failed, message)
-- A version without marks has left it.
redis.call('HDEL', state, 'stop:' .. message)
return await_reply(wait)
