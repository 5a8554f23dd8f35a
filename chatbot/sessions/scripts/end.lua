-- Deletes a session with all its keys, further KEYS included, and closes its sockets.
local found = exists()
local number = tonumber(redis.call('HGET', state, 'events') or 0) + 2
for _, key in ipairs(KEYS) do
  if key ~= ledger and key ~= waiting then
    redis.call('UNLINK', key)
  end
end
forget(session)
if found then
  -- The number is not the next one: each socket reads a snapshot to fill the gap, and finds the session gone.
  redis.call('PUBLISH', events, number .. ':\n')
end
return found and 1 or 0
