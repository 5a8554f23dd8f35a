-- Deletes a session with all its keys, further KEYS included, and closes its sockets.
local found = exists()
local line = redis.call('HGET', state, 'line')
if line then
  redis.call('ZREM', line, session)
end
local number = tonumber(redis.call('HGET', state, 'events') or 0) + 2
for _, key in ipairs(KEYS) do
  if key ~= ledger and key ~= waiting and key ~= pace then
    -- Not UNLINK: RedisJSON's documents are not safe to free in Redis' background thread.
    redis.call('DEL', key)
  end
end
forget(session)
if found then
  -- The number is not the next one: each socket reads a snapshot to fill the gap, and finds the session gone.
  redis.call('PUBLISH', events, number .. ':\n')
end
return found and 1 or 0
