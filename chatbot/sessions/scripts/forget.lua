-- Deletes what one request and its reply say; their positions in the log stay, and so do those of later messages. A
-- request that waits for its reply is left as it is.
if not exists() then
  return {'gone'}
end
local turn, human = turn_of(message)
if not human then
  return {'unknown'}
end
if redis.call('LPOS', pending, message) then
  return {'busy'}
end
touch()
local first, bot = positions(turn)
for _, position in pairs({first or false, bot or false}) do
  if position then
    local path = '.messages[' .. position - trimmed() .. ']'
    redis.call('JSON.SET', document, path .. '.msg', '""')
    for _, name in ipairs({'items', 'options', 'reasoning'}) do
      redis.call('JSON.DEL', document, path .. '.' .. name)
    end
    redis.call('JSON.SET', document, path .. '.deleted', 'true')
  end
end
redis.call('HDEL', failed, message)
redis.call('HDEL', state, 'counted')
return {'forgotten'}
