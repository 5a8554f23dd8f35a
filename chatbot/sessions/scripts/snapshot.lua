-- Returns what a socket needs to go on from the message `after`, or else from the `position` in the log; either may be ''.
-- An empty `ttl_ms` leaves the time to live as it is.
if not exists() then
  return {'gone'}
end
if ttl_ms ~= '' then
  touch()
end
local gone = trimmed()
local length = gone + redis.call('JSON.ARRLEN', document, '.messages')
local from, recovered = position, ''
if after ~= '' then
  local known = redis.call('HGET', index, after)
  recovered = known and '1' or '0'
  if known then
    from = string.match(known, '^%a:(%d+)') + 1
  end
end
local messages = ''
if from ~= '' and tonumber(from) < length then
  messages = redis.call('JSON.GET', document, '$.messages[' .. math.max(from - gone, 0) .. ':]')
end
return {
  'here', redis.call('JSON.GET', document, '.name'), redis.call('JSON.GET', document, '.session_start'),
  redis.call('PTTL', document), length, recovered, messages, redis.call('GET', partial) or '',
  redis.call('LRANGE', pending, 0, -1), redis.call('HGETALL', failed),
  tonumber(redis.call('HGET', state, 'events') or 0)
}
