-- All that a socket needs to go on from where its client was.
-- ARGV: id of the last message that the client holds or '', time to live in ms or '' for no touch,
--       position in the log to go on from (when no id is given) or ''
if not exists() then
  return {'gone'}
end
if ARGV[2] ~= '' then
  touch(ARGV[2])
end
local gone = trimmed()
local length = gone + redis.call('JSON.ARRLEN', document, '.messages')
local from, recovered = ARGV[3], ''
if ARGV[1] ~= '' then
  local known = redis.call('HGET', index, ARGV[1])
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
